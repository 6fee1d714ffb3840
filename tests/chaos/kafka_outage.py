"""Kafka is away, hangs, has no disk or loses its tail under load: nothing is lost, and ingress says so at once.

`python -m tests.chaos.kafka_outage [killed|hanging|full|cut ...]`: for each a stack of its own, a steady load,
the outage, load for a while more. Outcomes that could not be produced wait in the ledger and in the log of what
was not committed; afterwards totals equal the backends' log. Exit code 1 on a finding.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from tests.chaos.check import Findings, check
from tests.chaos.evidence import OK, ClientRequest, Evidence, Exchange
from tests.chaos.gathering import gather
from tests.chaos.load import Load
from tests.chaos.loss_findings import BALANCE, misbooked
from tests.chaos.outages import OUTAGES
from tests.chaos.rig import Rig, running_rig
from tests.chaos.run import CONNECT_S
from tests.chaos.stores import ledger_servers, settled, table_costs
from tests.chaos.timeline import render_seconds, seconds_of
from tests.support.harness.gateway_client import GatewayClient

RATE_PER_S: Final = 50.0
WARM_UP_S: Final = 10.0
AWAY_S: Final = 60.0
AFTERWARDS_S: Final = 20.0
KINDS: Final = ("sync", "stream", "job", "plain")
SEED: Final = 10
SERVED_WITHIN_S: Final = 120.0
NOTICED_S: Final = 12.5
"""Ten seconds for those that were let in before it was noticed, two until it is, and a look's time."""
AT_ONCE_S: Final = 3.0
"""On a machine where everything shares two cores with clients that all try again."""
DIVISOR_OF_CUT: Final = 20
"""What the log lost is produced again a minute after it should have been booked; nobody waits that long."""
SHOWN_MAX: Final = 5


@dataclass(frozen=True)
class Outlived:
    """What an outage showed."""

    told: str
    evidence: Evidence
    findings: Findings
    slow: tuple[str, ...]
    """Tries of clients that waited longer for a no than they may."""
    misbooked: tuple[str, ...]
    began_s: float
    served_after_s: float | None
    """From the broker's return to the first answer to somebody who came after it; ``None`` without one."""
    stopped_s: float

    @property
    def is_clean(self) -> bool:
        """Nothing was found."""
        is_served = self.served_after_s is not None
        return self.findings.is_clean and is_served and not self.slow and not self.misbooked


async def outlive(rig: Rig, name: str, away_s: float) -> Outlived:
    """Load, outage, load; then rest and judgement."""
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        client = GatewayClient(session, rig.stack.api_url)
        load = Load(client, rig.grants, RATE_PER_S, random.Random(SEED), KINDS)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(WARM_UP_S)
        began_s = time.monotonic()
        told = await OUTAGES[name](rig, away_s)
        back_s = time.monotonic()
        served_s = await _served(load, back_s)
        await asyncio.sleep(AFTERWARDS_S)
        stopped_s = time.monotonic()
        load.stop()
        await running
    evidence = await asyncio.to_thread(gather, rig, load.history)
    servers = ledger_servers(rig.state_dir)
    booked = (
        *misbooked(evidence, table_costs(servers), "tables"),
        *misbooked(evidence, settled(servers, BALANCE), "balance"),
    )
    slow = tuple(slow_refusals(load.history, began_s, began_s + away_s))
    return Outlived(
        told=told,
        evidence=evidence,
        findings=check(evidence),
        slow=slow,
        misbooked=booked,
        began_s=began_s,
        served_after_s=None if served_s is None else served_s - back_s,
        stopped_s=stopped_s,
    )


async def _served(load: Load, back_s: float) -> float | None:
    """When somebody was answered again; a broker on a busy machine takes a while to start."""
    while time.monotonic() < back_s + SERVED_WITHIN_S:
        for client in load.history:
            if client.is_answered and client.tries[-1].sent_s > back_s:
                return client.tries[-1].ended_s
        await asyncio.sleep(0.2)
    return None


def slow_refusals(clients: Sequence[ClientRequest], began_s: float, back_s: float) -> Iterator[str]:
    """Tries during the outage whose no came late: above ten seconds, or not at once when it was known."""
    for client in clients:
        for each in client.tries:
            if each.result != OK and began_s <= each.sent_s and each.ended_s <= back_s:
                took_s = each.ended_s - each.sent_s
                most_s = AT_ONCE_S if each.sent_s > began_s + NOTICED_S else NOTICED_S
                if took_s > most_s and _is_refusal(each):
                    yield f"{client.marker} ({client.kind}): {each.result} after {took_s:.1f} s"


def _is_refusal(exchange: Exchange) -> bool:
    """A job that was promised before, and is polled through the outage, is none."""
    return not exchange.result.startswith("job ")


def report(name: str, outlived: Outlived) -> str:
    """What was found, and the clients' seconds."""
    evidence = outlived.evidence
    served = "never" if outlived.served_after_s is None else f"{outlived.served_after_s:.1f} s"
    lines = [
        f"{name}: {outlived.told}; served {served} after the broker was let go on",
        f"requests {len(evidence.accepted)}, calls {len(evidence.calls)}",
    ]
    found = {field: getattr(outlived.findings, field) for field in Findings.__dataclass_fields__}
    found |= {"slow": outlived.slow, "misbooked": outlived.misbooked}
    for field, texts in found.items():
        lines.append(f"{field:<14}{len(texts):>4}  {'; '.join(texts[:SHOWN_MAX])[:1_000]}")
    seconds = seconds_of(evidence.clients, outlived.began_s)
    last = int(outlived.stopped_s - outlived.began_s)
    return "\n".join([*lines, render_seconds(seconds, -2, last)])


def main() -> int:
    """Read the command line, run the outages, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("outages", nargs="*", metavar="OUTAGE", help=", ".join(OUTAGES))
    options.add_argument("--away", type=float, default=AWAY_S, help="seconds")
    options.add_argument("--folder", type=Path, help="keeps logs, state and reports there")
    chosen = options.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-kafka-outage-"))
    print(f"logs and reports under {folder}", flush=True)
    is_clean = True
    for name in chosen.outages or OUTAGES:
        (own := folder / name).mkdir(parents=True, exist_ok=True)
        with running_rig(own, time_scale=DIVISOR_OF_CUT if name == "cut" else 1) as rig:
            outlived = asyncio.run(outlive(rig, name, chosen.away if name != "cut" else 5.0))
        text = report(name, outlived)
        (own / "report.txt").write_text(f"{text}\n{outlived.findings}\n")
        print(f"{text}\n{name}: {'CLEAN' if outlived.is_clean else 'FINDINGS'}", flush=True)
        is_clean &= outlived.is_clean
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())

"""Outages that outlast every window: what waits meanwhile is neither lost nor done twice.

`python -m tests.chaos.ageing`: for each scenario a stack of its own, a steady load, one part away,
copies of all records in the log, the first keys posted again, and the judgement of `check`. Outages
longer than a minute are divided, and with them all times of the gateway. Exit code 1 on a finding.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from tests.chaos.check import Findings, check
from tests.chaos.copies import BACKGROUND, DISPATCH, OUTCOMES, REQUESTS, copy_all
from tests.chaos.evidence import OK, ClientRequest, Evidence
from tests.chaos.gathering import gather
from tests.chaos.load import Load
from tests.chaos.rig import ROLES, Rig, running_rig
from tests.chaos.run import CONNECT_S
from tests.support.harness.gateway_client import GatewayClient

DIVISOR: Final = 20
RATE_PER_S: Final = 15.0
WARM_UP_S: Final = 8.0
AFTERWARDS_S: Final = 10.0
DEADLINE_S: Final = 10
"""Shorter than each outage, so that what waited is over when somebody looks at it."""
ASKED_AGAIN: Final = 150
STREAMS: Final = 20
STREAM_S: Final = 100.0
COPIED: Final = (OUTCOMES, REQUESTS, BACKGROUND, DISPATCH)
SEED: Final = 8


@dataclass(frozen=True)
class Scenario:
    """One part that is away, and for how long in real life."""

    role: str
    full_s: float
    divisor: int = DIVISOR
    has_streams: bool = False

    @property
    def away_s(self) -> float:
        return self.full_s / self.divisor


SCENARIOS: Final = {
    "accounting": Scenario("accounting", 20 * 60),
    "limiter": Scenario("limiter_worker", 15 * 60),
    "ledger": Scenario("ledger", 60, divisor=1, has_streams=True),
    "kafka": Scenario("kafka", 15 * 60),
}


@dataclass(frozen=True)
class Aged:
    """What a scenario showed."""

    scenario: Scenario
    evidence: Evidence
    findings: Findings
    copies: int
    streams: Sequence[ClientRequest]
    ended: tuple[str, ...]
    """Roles whose process ended of itself during the outage of another."""

    @property
    def cut(self) -> int:
        """Streams that ran through the outage and were not answered whole."""
        return sum(not stream.is_answered for stream in self.streams)

    @property
    def is_clean(self) -> bool:
        return self.findings.is_clean and not self.cut


async def age(rig: Rig, scenario: Scenario) -> Aged:
    """Load, outage, copies, return, copies again, the same keys again."""
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
    rng = random.Random(SEED)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout
    ) as session:
        client = GatewayClient(session, rig.stack.api_url)
        deadline_s = None if scenario.has_streams else DEADLINE_S
        load = Load(client, rig.grants, RATE_PER_S, rng, deadline_s=deadline_s)
        long = Load(client, rig.grants, STREAMS / 2.0, rng, ("stream",), stream_s=STREAM_S)
        long.try_deadline_s = 3 * STREAM_S
        running = [asyncio.create_task(load.run())]
        if scenario.has_streams:
            running.append(asyncio.create_task(long.run()))
        await asyncio.sleep(WARM_UP_S / 2)
        long.stop()
        await asyncio.sleep(WARM_UP_S / 2)
        copies, ended = await _be_away(rig, scenario)
        await asyncio.sleep(AFTERWARDS_S)
        load.stop()
        await asyncio.gather(*running)
        copies += await _copy(rig, COPIED)
        await load.ask_again(ASKED_AGAIN)
    clients = [*load.history, *long.history]
    evidence = await asyncio.to_thread(gather, rig, clients)
    return Aged(scenario, evidence, check(evidence), copies, tuple(long.history), ended)


async def _be_away(rig: Rig, scenario: Scenario) -> tuple[int, tuple[str, ...]]:
    """The outage; how many records were copied in its middle, and who else ended."""
    others = {role: rig.pid_of(role) for role in ROLES if role != scenario.role}
    copies = 0
    async with rig.away(scenario.role):
        back_s = time.monotonic() + scenario.away_s
        await asyncio.sleep(scenario.away_s / 2)
        if scenario.role != "kafka":
            copies = await _copy(rig, COPIED)
        await asyncio.sleep(max(0.0, back_s - time.monotonic()))
        ended = tuple(role for role, pid in others.items() if rig.pid_of(role) != pid)
    return copies, ended


async def _copy(rig: Rig, topics: Sequence[str]) -> int:
    return await asyncio.to_thread(copy_all, rig.stack.kafka, topics)


def row(aged: Aged) -> str:
    """The scenario as a line of the table."""
    found, evidence, scenario = aged.findings, aged.evidence, aged.scenario
    ends = Counter(outcome.status for outcome in evidence.outcomes)
    statuses = ", ".join(f"{status} {count}" for status, count in sorted(ends.items()))
    defects = (
        len(found.lost),
        len(found.doubled) + len(found.contradicted),
        len(found.unbilled),
        len(found.unreleased),
        len(found.misinformed),
    )
    answered = sum(client.is_answered for client in evidence.clients)
    return (
        f"{scenario.role:<15}{scenario.full_s:>7.0f}{scenario.divisor:>5}{scenario.away_s:>7.0f}"
        f"{len(evidence.accepted):>9}{answered:>9}{len(evidence.calls):>7}{aged.copies:>8}"
        + "".join(f"{count:>9}" for count in defects)
        + f"  {len(aged.streams) - aged.cut}/{len(aged.streams)} streams whole;"
        f" outcome records: {statuses}; ended meanwhile: {', '.join(aged.ended) or 'nobody'}"
    )


HEAD: Final = (
    f"{'away':<15}{'full s':>7}{'div':>5}{'away s':>7}{'requests':>9}{'answered':>9}{'calls':>7}"
    f"{'copies':>8}{'lost':>9}{'doubled':>9}{'unbilled':>9}{'held':>9}{'misinf.':>9}"
)


def main() -> int:
    """Read the command line, run the scenarios, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    options.add_argument("--folder", type=Path, help="keeps logs, state and reports there")
    chosen = options.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-ageing-"))
    print(f"logs and reports under {folder}\n{HEAD}", flush=True)
    is_clean = True
    for name in chosen.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        (own := folder / name).mkdir(parents=True, exist_ok=True)
        with running_rig(own, time_scale=scenario.divisor) as rig:
            aged = asyncio.run(age(rig, scenario))
        print(row(aged), flush=True)
        (own / "report.txt").write_text(f"{aged.findings}\n{_tries(aged.evidence)}\n")
        is_clean &= aged.is_clean
    return 0 if is_clean else 1


def _tries(evidence: Evidence) -> dict[str, int]:
    tries = Counter(t.result for client in evidence.clients for t in client.tries)
    return {OK: tries[OK], **tries}


if __name__ == "__main__":
    sys.exit(main())

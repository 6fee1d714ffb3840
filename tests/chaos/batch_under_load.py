"""A batch beside 50 interactive requests a second, while every process is killed once: what interactive clients feel of the batch,
whether each line stands in the results once and has one bill, and how much memory each process took.

The oracles are the results as OpenAI's SDK reads them, the backends' own logs, and the usage lines in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import openai

from schemas.topics import USAGE_RECORDS
from tests.chaos.rig import ROLES, Rig, running_rig
from tests.support.harness.gateway_client import MODEL, GatewayClient
from tests.support.harness.kafka_log import KafkaLog

RATE_PER_S = 50
P95_GROWS_BY = 1.5
_URL: Final = "/v1/chat/completions"
_READ_S = 90.0


@dataclass
class Interactive:
    """Requests that leave at planned times, and how long each answer took, from its planned time."""

    client: GatewayClient
    key: str
    took_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    async def run(self, seconds: float) -> float:
        """Send for so long; the 95th percentile of what was answered with success, in milliseconds."""
        begun_s, first = time.monotonic(), len(self.took_s)
        async with asyncio.TaskGroup() as sending:
            for number in range(int(seconds * RATE_PER_S)):
                planned_s = begun_s + number / RATE_PER_S
                await asyncio.sleep(max(0.0, planned_s - time.monotonic()))
                sending.create_task(self._one(planned_s))
        took = sorted(self.took_s[first:])
        return 1_000 * took[int(0.95 * len(took))] if took else float("inf")

    async def _one(self, planned_s: float) -> None:
        try:
            reply = await self.client.chat(self.key, "interactive", max_tokens=20)
        except (aiohttp.ClientError, TimeoutError):
            self.statuses[0] += 1
            return
        self.statuses[reply.status] += 1
        if reply.status == 200:
            self.took_s.append(time.monotonic() - planned_s)


def begin(client: openai.OpenAI, lines: int) -> str:
    """A batch of so many lines; its id."""
    content = "\n".join(json.dumps(_line(f"line-{number}")) for number in range(lines))
    file = client.files.create(file=("lines.jsonl", content.encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=_URL, completion_window="24h")
    return batch.id


async def finished(client: openai.OpenAI, batch: str, within_s: float) -> Any:
    """The batch once it ended, however often its gateway was away meanwhile."""
    until_s, told_s = time.monotonic() + within_s, 0.0
    while time.monotonic() < until_s:
        try:
            found = await asyncio.to_thread(client.batches.retrieve, batch)
        except openai.APIError as error:
            print(f"  not told now: {type(error).__name__}", flush=True)
        else:
            if found.status in {"completed", "failed", "expired", "cancelled"}:
                return found
            if time.monotonic() - told_s > 15:
                told_s = time.monotonic()
                print(f"  {found.status} {found.request_counts}", flush=True)
        await asyncio.sleep(1)
    raise SystemExit(f"{batch} did not end within {within_s:.0f} s")


def peaks_mib(rig: Rig) -> dict[str, int]:
    """The most memory that each process had, of those that live."""
    found: dict[str, int] = {}
    for role in ROLES:
        for pid in rig.pids_of(role):
            status = Path(f"/proc/{pid}/status").read_text()
            peak_kib = int(status.partition("VmHWM:")[2].split()[0])
            found[role] = max(found.get(role, 0), peak_kib // 1024)
    return found


def judge(rig: Rig, client: openai.OpenAI, batch: Any, lines: int) -> list[str]:
    """What is wrong with the results and bills of a batch; nothing, if all is well."""
    results = _results(client, batch.output_file_id) + _results(client, batch.error_file_id)
    by_id = Counter(line["custom_id"] for line in results)
    wrong = [
        f"{name} stands {count} times in the results" for name, count in by_id.items() if count > 1
    ]
    wrong += [f"line-{at} is missing" for at in range(lines) if f"line-{at}" not in by_id]
    failed = [line for line in results if (line["response"] or {}).get("status_code") != 200]
    codes = Counter(
        json.dumps((line["response"] or line)["body" if line["response"] else "error"])[:200]
        for line in failed
    )
    print(f"  {len(results) - len(failed)} succeeded, {len(failed)} failed: {codes.most_common(5)}")
    org = next(grant.org for grant in rig.grants)
    ids = {line["response"]["request_id"] for line in results if line["response"]}
    seen = Counter[str]()
    estimates = Counter[str]()
    usage = KafkaLog(rig.stack.kafka).read(
        USAGE_RECORDS,
        lambda records: len({r.value.get("request_id") for r in records} & ids) == len(ids),
        _READ_S,
    )
    for record in usage:
        if record.schema == "UsageRecorded" and record.value["org"] == org:
            (estimates if record.value["estimated"] else seen)[record.value["request_id"]] += 1
    wrong += [f"{each} has {count} bills" for each, count in seen.items() if count > 1]
    succeeded = {line["response"]["request_id"] for line in results if line not in failed}
    wrong += [f"{each} has no bill" for each in succeeded if not seen[each] and not estimates[each]]
    wrong += [f"{each} was billed and stands nowhere" for each in seen if each not in ids]
    calls = Counter(call.start.request_id for call in rig.calls())
    more = {each: calls[each] for each in ids if calls[each] > 1}
    print(
        f"  {len(seen)} requests with a bill, {len(estimates)} with an estimate, {len(more)} called more than once: {more}"
    )
    return wrong


def _results(client: openai.OpenAI, name: str | None) -> list[dict[str, Any]]:
    text = "" if name is None else client.files.content(name).text
    return [json.loads(line) for line in text.splitlines()]


def _line(custom_id: str) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": custom_id}], "max_tokens": 8}
    return {"custom_id": custom_id, "method": "POST", "url": _URL, "body": body}


async def run(
    rig: Rig, lines: int, calm_s: float, roles: Sequence[str], seconds_each: float
) -> list[str]:
    """Everything, on a stack that runs; what is wrong."""
    batching, asking = rig.grants[0], rig.grants[1]
    timeout, connector = aiohttp.ClientTimeout(total=60), aiohttp.TCPConnector(limit=0)
    client = openai.OpenAI(base_url=rig.stack.api_url, api_key=batching.key, max_retries=5)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        interactive = Interactive(GatewayClient(session, rig.stack.api_url), asking.key)
        await interactive.run(5)
        alone_ms = await interactive.run(calm_s)
        batch = await asyncio.to_thread(begin, client, lines)
        begun_s = time.monotonic()
        await interactive.run(3)
        beside_ms = await interactive.run(calm_s)
        now = await asyncio.to_thread(client.batches.retrieve, batch)
        counts = now.request_counts
        done = 0 if counts is None else counts.completed
        per_s = done / (time.monotonic() - begun_s)
        print(
            f"p95 {alone_ms:.1f} ms alone, {beside_ms:.1f} ms beside the batch ({done} lines so far, {per_s:.0f}/s)"
        )
        print(f"statuses before any kill: {dict(interactive.statuses)}")
        peaks, interactive.statuses = peaks_mib(rig), Counter()
        for role in roles:
            sending = asyncio.create_task(interactive.run(seconds_each))
            strike = await rig.strike(role)
            print(f"  killed {role}, back after {strike.back_after_s} s", flush=True)
            await sending
        sending = asyncio.create_task(interactive.run(24 * 3_600))
        try:
            ended = await finished(client, batch, 1_800)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    took_s = time.monotonic() - begun_s
    print(
        f"{ended.status} after {took_s:.0f} s: {ended.request_counts}; interactive {dict(interactive.statuses)}"
    )
    later = peaks_mib(rig)
    print(
        f"peak memory, MiB: { ({role: max(peaks.get(role, 0), later.get(role, 0)) for role in ROLES}) }"
    )
    wrong = await asyncio.to_thread(judge, rig, client, ended, lines)
    if beside_ms > P95_GROWS_BY * alone_ms:
        wrong.append(f"the p95 grew by {beside_ms / alone_ms:.2f}")
    if done >= lines:
        wrong.append("the batch ended before it was measured: ask for more lines")
    return wrong


def main() -> int:
    """Read the command line, run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=10_000)
    options.add_argument(
        "--calm",
        type=float,
        default=20.0,
        help="seconds that are measured, without and with the batch",
    )
    options.add_argument("--roles", default=",".join(ROLES), help="comma-separated: who is killed")
    options.add_argument("--seconds-each", type=float, default=12.0, help="from kill to kill")
    options.add_argument("--folder", type=Path, help="keeps logs and state there")
    chosen = options.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-batch-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"logs under {folder}", flush=True)
    roles = [role for role in chosen.roles.split(",") if role]
    with running_rig(folder) as rig:
        wrong = asyncio.run(run(rig, chosen.lines, chosen.calm, roles, chosen.seconds_each))
    print("\n".join(wrong) or "nothing is wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

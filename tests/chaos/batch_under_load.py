"""A batch beside 50 interactive requests a second, while every process is killed once: what interactive clients feel of it,
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
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, TypeAlias

import aiohttp
import openai

from schemas.topics import USAGE_RECORDS
from tests.chaos.rig import ROLES, Rig, running_rig
from tests.support.harness.gateway_client import MODEL, GatewayClient
from tests.support.harness.kafka_log import KafkaLog

Span: TypeAlias = tuple[float, float]
"""Two times of the monotonic clock."""
RATE_PER_S = 50
P95_GROWS_BY = 1.5
_URL: Final = "/v1/chat/completions"
_READ_S = 90.0
_WINDOW_S: Final = 20
_ENOUGH: Final = RATE_PER_S * _WINDOW_S // 2
_AFTERMATH_S: Final = 15.0
"""After whoever was killed is back: what waited for it is answered."""


class Told(NamedTuple):
    """Milliseconds that answers took, from when they should have been asked for."""

    p50_ms: float
    p95_ms: float
    usual_p95_ms: float
    """The median of the 95th percentiles of twenty seconds each: what else the machine did for a while moves it little."""
    answers: int


def quantile(took_ms: Sequence[float], share: float) -> float:
    """The value below which that share is; infinite of none."""
    return sorted(took_ms)[int(share * len(took_ms))] if took_ms else float("inf")


@dataclass
class Interactive:
    """Requests that leave at planned times, and how long each answer took, from its planned time."""

    client: GatewayClient
    key: str
    took_s: list[tuple[float, float]] = field(default_factory=list)
    """Planned time, and seconds to the answer, of each success."""
    statuses: Counter[int] = field(default_factory=Counter)

    async def run(self) -> None:
        """Send until it is cancelled; what is under way then is not counted."""
        begun_s, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as sending:
            while True:
                planned_s = begun_s + number / RATE_PER_S
                number += 1
                await asyncio.sleep(max(0.0, planned_s - time.monotonic()))
                sending.create_task(self._one(planned_s))

    async def _one(self, planned_s: float) -> None:
        try:
            reply = await self.client.chat(self.key, "interactive", max_tokens=20)
        except (aiohttp.ClientError, TimeoutError):
            self.statuses[0] += 1
            return
        self.statuses[reply.status] += 1
        if reply.status == 200:
            self.took_s.append((planned_s, time.monotonic() - planned_s))

    def told(self, spans: Sequence[Span]) -> Told:
        """What these spans of time come to."""
        within = [
            (planned_s, 1_000 * took_s)
            for planned_s, took_s in self.took_s
            if any(begin_s <= planned_s < end_s for begin_s, end_s in spans)
        ]
        windows = defaultdict[int, list[float]](list)
        for planned_s, took_ms in within:
            windows[int(planned_s / _WINDOW_S)].append(took_ms)
        p95s = [quantile(each, 0.95) for each in windows.values() if len(each) >= _ENOUGH]
        took = [took_ms for _, took_ms in within]
        usual_ms = median(p95s) if p95s else float("inf")
        return Told(quantile(took, 0.5), quantile(took, 0.95), usual_ms, len(took))


def without(whole: Span, others: Sequence[Span]) -> list[Span]:
    """What is left of a span of time; the others are in order, and may overlap."""
    left, at_s = list[Span](), whole[0]
    for begin_s, end_s in others:
        if begin_s > at_s:
            left.append((at_s, min(begin_s, whole[1])))
        at_s = max(at_s, end_s)
    return [*left, (at_s, whole[1])] if at_s < whole[1] else left


async def kill_each(rig: Rig, roles: Sequence[str], seconds_each: float) -> list[Span]:
    """Kill every process once; when clients may have felt each kill."""
    felt = []
    for role in roles:
        begun_s = time.monotonic()
        strike = await rig.strike(role)
        felt.append((begun_s, time.monotonic() + _AFTERMATH_S))
        print(f"  killed {role}, back after {strike.back_after_s} s", flush=True)
        await asyncio.sleep(max(0.0, begun_s + seconds_each - time.monotonic()))
    return felt


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


def judge(rig: Rig, org: str, client: openai.OpenAI, batch: Any, lines: int) -> list[str]:
    """What is wrong with the results and bills of the one batch of an organization; nothing, if all is well."""
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
    rig: Rig,
    lines: int,
    calm_s: float,
    roles: Sequence[str],
    seconds_each: float,
    *,
    has_control: bool,
) -> list[str]:
    """Everything, on a stack that runs; what is wrong.

    Before the batch, beside it, beside it while everything is killed, beside it until it ends, behind it; and, as a control, the same
    kills without a batch.
    """
    batching, asking = rig.grants[0], rig.grants[1]
    timeout, connector = aiohttp.ClientTimeout(total=60), aiohttp.TCPConnector(limit=0)
    client = openai.OpenAI(base_url=rig.stack.api_url, api_key=batching.key, max_retries=5)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        interactive = Interactive(GatewayClient(session, rig.stack.api_url), asking.key)
        sending = asyncio.create_task(interactive.run())
        try:
            await asyncio.sleep(5)
            alone = [await _pass(calm_s)]
            batch = await asyncio.to_thread(begin, client, lines)
            begun_s = time.monotonic()
            await asyncio.sleep(calm_s)
            print(f"statuses before any kill: {dict(interactive.statuses)}", flush=True)
            peaks = peaks_mib(rig)
            felt = await kill_each(rig, roles, seconds_each)
            ended = await finished(client, batch, 1_800)
            beside = (begun_s, time.monotonic())
            later = peaks_mib(rig)
            print(f"{ended.status} after {beside[1] - begun_s:.0f} s: {ended.request_counts}")
            await asyncio.sleep(3)
            alone.append(await _pass(calm_s))
            control = list[Span]()
            if has_control:
                killed_s = time.monotonic()
                await kill_each(rig, roles, seconds_each)
                control = [(killed_s, time.monotonic())]
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    print(f"interactive, all: {dict(interactive.statuses)}")
    peak = {role: max(peaks.get(role, 0), later.get(role, 0)) for role in ROLES}
    print(f"peak memory, MiB: {peak}")
    spans = {
        "without the batch": alone,
        "beside it, outside of kills": without(beside, felt),
        "beside it, over everything": [beside],
        "beside it, while everything is killed": [(felt[0][0], felt[-1][1])] if felt else [],
        "the same kills without a batch": control,
    }
    told = {name: interactive.told(each) for name, each in spans.items() if each}
    for name, each in told.items():
        print(
            f"  {name}: p50 {each.p50_ms:.1f} ms, p95 {each.p95_ms:.1f} ms of {each.answers},"
            f" usual p95 of {_WINDOW_S} s {each.usual_p95_ms:.1f} ms"
        )
    wrong = await asyncio.to_thread(judge, rig, batching.org, client, ended, lines)
    beside_ms, alone_ms = (
        told[name].usual_p95_ms for name in ("beside it, outside of kills", "without the batch")
    )
    grew_by = beside_ms / alone_ms
    print(f"the usual p95 beside the batch is {grew_by:.2f} times that without")
    if grew_by > P95_GROWS_BY:
        wrong.append(f"the p95 grew by {grew_by:.2f}")
    return wrong


async def _pass(seconds: float) -> Span:
    begun_s = time.monotonic()
    await asyncio.sleep(seconds)
    return begun_s, time.monotonic()


def main() -> int:
    """Read the command line, run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=10_000)
    options.add_argument(
        "--calm",
        type=float,
        default=60.0,
        help="seconds before, beside and behind the batch in which nobody is killed",
    )
    options.add_argument("--roles", default=",".join(ROLES), help="comma-separated: who is killed")
    options.add_argument("--seconds-each", type=float, default=12.0, help="from kill to kill")
    options.add_argument(
        "--no-control", action="store_true", help="no second round of kills, without a batch"
    )
    options.add_argument("--folder", type=Path, help="keeps logs and state there")
    chosen = options.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-batch-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"logs under {folder}", flush=True)
    roles = [role for role in chosen.roles.split(",") if role]
    with running_rig(folder) as rig:
        wrong = asyncio.run(
            run(
                rig,
                chosen.lines,
                chosen.calm,
                roles,
                chosen.seconds_each,
                has_control=not chosen.no_control,
            )
        )
    print("\n".join(wrong) or "nothing is wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

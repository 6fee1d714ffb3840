"""kill -9 at every step between `start` and `book`, the bus wiped as well: what a client with a key is told,
and what is billed.

`make kill-points`. One stack, one request per row. The process that is on its way past the step kills itself
(`dying.py`), the bus dies with it, and the client sends its request again under the same
key until it has an answer, and once more. Times of the stack are divided by `SCALE`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.check import cost_nano_usd
from tests.chaos.rig import Rig, running_rig
from tests.chaos.snapshots_told import lacking
from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.kafka_log import KafkaLog

SCALE = 5
DIES_WITHIN_S = 90.0
ANSWERS_WITHIN_S = 90.0
_USAGE = "usage.records.v1"
_LOST = "the client lost the connection"


@dataclass(frozen=True)
class Step:
    """Where to die, and what must have been called and told then."""

    name: str
    calls: int = 1
    estimates: int = 0
    """Usage lines of attempts whose owner died: nobody knows what it used, so all it held."""
    stream: bool = False
    """Whether the request is one: a stream of which a frame was sent is not begun again."""
    after: str | None = None
    """Where the owner died before, for steps of those who clean up."""

    @property
    def status(self) -> int:
        return 502 if self.stream else 200


STEPS = (
    Step("after start", estimates=1),
    Step("in the middle of the call", calls=2, estimates=1),
    Step("after the first frame", stream=True, estimates=1),
    Step("after finish, before the terminal frame"),
    Step("after the terminal frame, before the outcome"),
    Step("after the outcome, before the offset"),
    Step("before book"),
    Step("after book, before the usage lines"),
    Step("between reap and reaped", stream=True, estimates=1, after="after the first frame"),
)


@dataclass(frozen=True)
class Row:
    """What a step showed."""

    step: Step
    first: str
    """What the connection saw that was open when the process died."""
    again: tuple[int, ...]
    is_same: bool
    """Whether all answers after that were the same bytes."""
    calls: int
    bills: int
    """Usage lines with the backend's own count."""
    estimates: int
    difference: int
    untold: int
    """What the snapshots in the log lack of all that the organization cost so far, by the backends' log."""
    took_s: float

    @property
    def is_right(self) -> bool:
        """One bill, and an estimate for whoever vanished before it could close; the promised answer."""
        step = self.step
        told = set(self.again) == {step.status} and self.is_same
        billed = (self.bills, self.estimates) == (int(not step.stream), step.estimates)
        sums = self.difference, self.untold
        return told and billed and self.calls == step.calls and sums == (0, 0)


def body_of(step: Step, marker: str) -> dict[str, Any]:
    """Slow enough to be met in its middle."""
    content = steer(delay_ms=200 if step.stream else 700, output_tokens=6)
    messages = [{"role": "user", "content": marker}, {"role": "user", "content": content}]
    return {"model": MODEL, "messages": messages, "stream": step.stream}


class Table:
    """Runs the steps on one stack."""

    def __init__(self, rig: Rig, bed: Path) -> None:
        self._rig, self._bed = rig, bed
        self._log = KafkaLog(rig.stack.kafka)
        self._http = httpx.Client(timeout=ANSWERS_WITHIN_S, trust_env=False)
        self._pool = ThreadPoolExecutor(1)
        self._cost = 0

    def row(self, step: Step) -> Row:
        """Kill at the step, then ask again until the answer stands."""
        began_s = time.monotonic()
        key, body = uuid.uuid4().hex, body_of(step, uuid.uuid4().hex)
        known = {call.start.request_id for call in self._rig.calls()}
        names = [name for name in (step.after, step.name) if name]
        self._bed.write_text(names[0])
        first = self._pool.submit(self._post, key, body)
        for name, following in zip_longest(names, names[1:]):
            self._await_death(name)
            if following:
                self._bed.write_text(following)
            asyncio.run(self._rig.strike("bus"))
        status, broke, _ = first.result()
        answers = [self._settled(key, body), self._post(key, body)]
        ids = {call.start.request_id for call in self._rig.calls()} - known
        lines = self._lines_of(ids, step.estimates + int(not step.stream))
        return Row(
            step,
            broke or str(status),
            tuple(status for status, _, _ in answers),
            len({text for _, _, text in answers}) == 1,
            sum(call.start.request_id in ids for call in self._rig.calls()),
            sum(not line["estimated"] for line in lines),
            sum(line["estimated"] for line in lines),
            self._rig.ledger_at_rest().difference,
            self._untold(ids, lines),
            time.monotonic() - began_s,
        )

    def _post(self, key: str, body: dict[str, Any]) -> tuple[int, str, str]:
        """Status, what broke, and the whole body."""
        headers = {
            "Authorization": f"Bearer {self._rig.grants[0].key}",
            "Idempotency-Key": key,
        }
        url = f"{self._rig.stack.api_url}/chat/completions"
        try:
            answer = self._http.post(url, json=body, headers=headers)
        except httpx.HTTPError:
            return 0, _LOST, ""
        return answer.status_code, _told(answer), answer.text

    def _settled(self, key: str, body: dict[str, Any]) -> tuple[int, str, str]:
        """The first answer that a client does not repeat its request for."""
        until_s = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            answer = self._post(key, body)
            if answer[0] not in (0, 409, 429, 503, 504) or time.monotonic() > until_s:
                return answer
            time.sleep(0.3)

    def _await_death(self, name: str) -> None:
        until_s = time.monotonic() + DIES_WITHIN_S
        while self._bed.exists():
            if time.monotonic() > until_s:
                self._bed.unlink(missing_ok=True)
                raise TimeoutError(f"nobody died {name}")
            time.sleep(0.02)

    def _lines_of(self, ids: set[str | None], least: int) -> list[dict[str, Any]]:
        def mine(records: Sequence[Any]) -> list[dict[str, Any]]:
            return [r.value for r in records if r.value["request_id"] in ids]

        records = self._log.read(_USAGE, lambda got: len(mine(got)) >= least, DIES_WITHIN_S)
        return mine(records)

    def _untold(self, ids: set[str | None], lines: list[dict[str, Any]]) -> int:
        called = [call for call in self._rig.calls() if call.start.request_id in ids and call.end]
        for line in lines:
            # All calls of a row are alike, so each bill is what the backend counted for any of them.
            self._cost += line["cost_nano_usd"] if line["estimated"] else cost_nano_usd(called[-1])
        return lacking(self._log, self._cost)


def _told(answer: httpx.Response) -> str:
    """The status, or the code of an error that came after it."""
    code = answer.text.partition('"code":"')[2].partition('"')[0]
    return f"{answer.status_code} {code}" if code else str(answer.status_code)


def render(rows: Sequence[Row]) -> str:
    """The table as text."""
    head = f"{'kill -9':<46}{'client saw':<30}{'again':<10}{'same':<6}{'calls':>6}{'bills':>6}{'estimates':>10}"
    lines = [
        f"times divided by {SCALE}, bus wiped at each step",
        f"{head}{'difference':>11}{'untold':>8}{'s':>6}",
    ]
    for row in rows:
        again = ",".join(map(str, row.again))
        lines.append(
            f"{row.step.name:<46}{row.first:<30}{again:<10}{row.is_same!s:<6}{row.calls:>6}"
            f"{row.bills:>6}{row.estimates:>10}{row.difference:>11}{row.untold:>8}{row.took_s:>6.1f}{'' if row.is_right else '  WRONG'}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the table; 1 when a row is not as promised."""
    names = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="tallygate-kill-points-"))
    bed = folder / "deathbed"
    os.environ["PYTHONPATH"] = str(Path(__file__).parent / "deathbed")
    os.environ["TALLYGATE_TEST_DEATHBED"] = str(bed)
    print(f"logs under {folder / 'state' / 'logs'}", flush=True)
    rows = []
    with running_rig(folder, time_scale=SCALE) as rig:
        table = Table(rig, bed)
        for step in STEPS:
            if not names or step.name in names:
                rows.append(table.row(step))
                print(render(rows[-1:]).splitlines()[-1], flush=True)
    print(render(rows))
    return 0 if all(row.is_right for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

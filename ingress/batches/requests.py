"""Runs one line of a batch: the way from a body to its answer is that of any request, with a key of the line's own.

The key is what makes a line run once: whoever begins it again, after whatever was killed, joins the request or gets its answer. A line
that was refused at no cost is tried again until its batch ends, because nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ingress.apis.answer_format import refusal_of
from ingress.apis.bindings import BINDINGS
from ingress.auth.api_key import NOT_VALID
from ingress.auth.caller import Caller
from ingress.batches.batch import Batch
from ingress.batches.figures import BatchFigures
from ingress.batches.lines import EndedLine, InputLine, output_line
from ingress.batches.pace import Pace
from ingress.gatekeeper.bodies import BodyHold
from ingress.http.refusals import Refusal
from ingress.http.request import Preference
from ingress.requests.begin import BegunRequest, RequestStarter
from ingress.requests.outcomes import cost_nothing
from ingress.requests.validation import Circumstances, ValidatedRequest, validate
from schemas.caller_ids import is_vouched_for
from schemas.config_state import Snapshot
from schemas.errors import ErrorCode
from schemas.failures import Transient
from schemas.frames import Terminal
from schemas.ids import UUID7_RANDOM_BYTES, uuid7
from schemas.ledger.errors import LedgerUnavailable
from schemas.operations import OPERATIONS
from schemas.runtime.process.clock import Clock, random_bytes

_LINE_MS: Final = 600_000
"""A hold lives for eleven minutes at most; a line that did not run by then is begun again."""
_PAUSE_S: Final = (1.0, 30.0)
_TRIED_AGAIN: Final = frozenset(
    {
        ErrorCode.RATE_LIMIT_EXCEEDED,
        ErrorCode.UPSTREAM_RATE_LIMITED,
        ErrorCode.SERVICE_UNAVAILABLE,
        ErrorCode.OVERLOADED,
        ErrorCode.NO_BACKEND,
        ErrorCode.BODY_LOST,
        ErrorCode.IDEMPOTENCY_IN_FLIGHT,
        ErrorCode.DEADLINE_EXCEEDED,
    }
)
_TOO_MANY: Final = 429
"""Also of a budget that running requests hold up."""
_PREFERENCE: Final = Preference(respond_async=True)


class LineStopped(Transient):
    """The line did not end, and is not to be tried again here."""


@dataclass(slots=True)
class LineRunner:
    """Runs the lines of one batch, as its caller's requests."""

    batch: Batch
    starter: RequestStarter
    clock: Clock
    is_stopping: Callable[[], bool]
    pace: Pace
    figures: BatchFigures
    under_way: dict[str, BegunRequest] = field(default_factory=dict)
    """Requests that have begun, by id."""
    waiting: Counter[ErrorCode] = field(default_factory=Counter)
    """How many lines wait to be tried again, by what refused them last."""

    async def answer(self, number: int, line: InputLine) -> EndedLine:
        """The line once it ended, whatever it takes until its batch does. Raises ``LineStopped``."""
        again, pause_s = 0, _PAUSE_S[0]
        while True:
            request_id = uuid7(self.clock.now_ms(), random_bytes(UUID7_RANDOM_BYTES))
            request = self._validated(number, again, line)
            if isinstance(request, Refusal):
                return self._ended(number, line, request_id, request, None)
            begun = await self.starter.begin(request, request_id, _room(line), _for_ever)
            if isinstance(begun, Refusal):
                answer: Refusal | bytes = begun
                end = None
            else:
                request_id, end = begun.request_id, await self._await(begun)
                form = BINDINGS[self.batch.operation].format(request.parsed, request_id)
                answer = refusal_of(end) or form.body(end)
            if not (isinstance(answer, Refusal) and _may_succeed(answer, end)):
                return self._ended(number, line, request_id, answer, end)
            if end is not None and not cost_nothing(end):
                again += 1  # The key of what was told stays with it.
            await self._rest(
                answer.code, min(_PAUSE_S[1], max(pause_s, (answer.wait_ms or 0) / 1_000))
            )
            pause_s = min(_PAUSE_S[1], 2 * pause_s)

    async def _rest(self, code: ErrorCode, seconds: float) -> None:
        """Let time pass after a refusal, then wait for its turn as any line. Raises ``LineStopped``."""
        self.waiting[code] += 1
        try:
            with self.figures.waiting(code):
                await asyncio.sleep(seconds)
                await self.pace.turn()
        finally:
            self.waiting[code] -= 1
        if self.is_stopping():
            raise LineStopped

    async def cancel(self) -> None:
        """Cancel what is under way; each line then ends as its request does. While the ledger is away nothing is done."""
        cancel, org = self.starter.cancellations.cancel, self.batch.caller.org
        begun = list(self.under_way.values())
        with suppress(LedgerUnavailable):
            await asyncio.gather(*(cancel(org, b.request_id, b.deadline_ms) for b in begun))

    async def _await(self, begun: BegunRequest) -> Terminal:
        """How the request ended. Raises ``LineStopped`` where this process ends before it does."""
        assert begun.mailbox is not None, "only an operation that keeps its result has none"
        self.under_way[begun.request_id] = begun
        try:
            with begun:
                end = await begun.mailbox.take_terminal()
                if end is None or begun.mailbox.is_abandoned:
                    raise LineStopped
                await begun.settle(end)
                return end
        finally:
            del self.under_way[begun.request_id]

    def _validated(self, number: int, again: int, line: InputLine) -> ValidatedRequest | Refusal:
        """The request of the line under a key that no client can send."""
        batch, now_ms = self.batch, self.clock.now_ms()
        snapshot = self.starter.gatekeeper.config.snapshot
        if not _still_calls(batch.caller, snapshot, now_ms):
            return NOT_VALID
        left_ms = max(1, 1_000 * batch.expires_at_s - now_ms)
        timeout_ms = min(_LINE_MS, left_ms)
        key = f"\0{batch.id}\0{number}\0{again}"
        said = Circumstances(timeout_ms, timeout_ms, key, _PREFERENCE, None)
        operation = OPERATIONS[batch.operation]
        request = validate(
            operation,
            BINDINGS[operation.name].parse,
            batch.caller,
            said,
            line.body,
            snapshot,
            now_ms,
            flex_s=None,  # It waits for room already.
        )
        if isinstance(request, Refusal):
            return request
        return msgspec.structs.replace(request, is_listed=False)

    def _ended(
        self,
        number: int,
        line: InputLine,
        request_id: str,
        answer: Refusal | bytes,
        end: Terminal | None,
    ) -> EndedLine:
        return output_line(self.batch.id, number, line.custom_id, request_id, answer, end)


def _may_succeed(answer: Refusal, end: Terminal | None) -> bool:
    """Whether a line that was refused so may be tried again: nothing was spent, and what is in the way passes."""
    usage = None if end is None else end.usage
    is_free = usage is None or not (
        usage.input_tokens or usage.output_tokens or usage.cost_nano_usd
    )
    return is_free and (answer.code in _TRIED_AGAIN or answer.status == _TOO_MANY)


def _still_calls(caller: Caller, snapshot: Snapshot, now_ms: int) -> bool:
    """Whether the key that asked for the batch, where it was one, is still good, and its organization there."""
    key = snapshot.keys.get(caller.key_id)
    if key is None:
        return is_vouched_for(caller.key_id)
    is_over = key.expires_at_ms is not None and key.expires_at_ms <= now_ms
    return key.revoked_at_ms is None and not is_over


def _room(line: InputLine) -> BodyHold:
    """What the body of a line takes is bounded by how many are under way."""
    return BodyHold(len(line.body), lambda _: None)


async def _for_ever() -> None:
    await asyncio.Event().wait()

"""Judges what a backend says it used against the bound that was held, and remembers by how much it was exceeded.

The bound was proved from the body, so an excess is what the body does not show: instructions or documents that
the backend adds, a limit that it does not heed. Within the model's context window that may be: it is booked as it
was said, the ledger counts it as over, and requests of that model hold so much more for an hour after it was last
seen. Beyond the window nothing can be: the bound is booked, and what was said is kept beside it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeAlias

import msgspec

from dispatcher.work import AdmittedRequest, Choice
from schemas.entities import Model
from schemas.events import RequestAccepted
from schemas.log_events import LogEvent
from schemas.pricing.counts import TokenCounts
from schemas.reports import NO_EXCESS, Excess
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.process.telemetry import Metrics

_LOG = EventLog(__name__)

WINDOW_TOKENS: Final = 10_000_000
"""Of a model that states none: more than any has."""
LEARNED_TOKENS_MAX: Final = 131_072
"""What can be added to the holds of a model that states no window: one odd answer must not close it."""
TOOL_CALLS_MAX: Final = 1_000
"""Of one request; no backend makes so many."""
REMEMBERED_S: Final = 3_600.0
KNOWN_AFTER_MS: Final = 10_000
"""By then ingress holds what was learned: it is reported and read every two seconds."""
_ENTRIES_MAX: Final = 4_096

_Lane: TypeAlias = tuple[str, str]
"""Backend and model."""


class Judged(NamedTuple):
    """What is booked, and what was said where that cannot be."""

    booked: TokenCounts
    told: TokenCounts | None = None


class _Asked(msgspec.Struct, frozen=True):
    n: int | None = None


_ASKED: Final = msgspec.json.Decoder(_Asked)


def judged(counts: TokenCounts, request: RequestAccepted, window: int) -> Judged:
    """The counts as they were said; the bound where no request can have used as much. Pure.

    What is capped counts as plain text: of what cannot be, the kinds are not believed either.
    """
    booked, tools = counts, request.reach.tool_calls_bound if request.reach else 0
    if counts.input_tokens > max(window, request.input_tokens_bound):
        booked = msgspec.structs.replace(
            booked,
            input_tokens=request.input_tokens_bound,
            cached_tokens=0,
            cache_write_tokens=0,
            cache_write_1h_tokens=0,
            audio_input_tokens=0,
            image_input_tokens=0,
        )
    if counts.output_tokens > request.output_tokens_bound + window * _choices(request.payload):
        booked = msgspec.structs.replace(
            booked,
            output_tokens=request.output_tokens_bound,
            reasoning_tokens=0,
            audio_output_tokens=0,
            image_output_tokens=0,
        )
    if counts.tool_calls > max(tools, TOOL_CALLS_MAX):
        booked = msgspec.structs.replace(booked, tool_calls=tools, tool_kinds=())
    return Judged(booked, None if booked is counts else counts)


def _choices(payload: bytes) -> int:
    """How many answers the body asks for, each of which may fill the window."""
    try:
        return _ASKED.decode(payload).n or 1
    except ValueError:
        return 1


@dataclass(frozen=True, slots=True)
class _Lesson:
    excess: Excess
    learned_at_ms: int
    """When it became this large."""
    until_s: float


@dataclass(slots=True)
class Excesses:
    """By how much backends exceed the bounds of models; the one learned longest ago makes room."""

    models: Callable[[], Mapping[str, Model]]
    """As they are configured now."""
    metrics: Metrics
    clock: Clock
    _learned: OrderedDict[_Lane, _Lesson] = field(default_factory=OrderedDict)

    def judge(
        self, job: AdmittedRequest, choice: Choice, attempt: int, counts: TokenCounts
    ) -> Judged:
        """What to book of a backend's own counts; told to operators and remembered where they exceed the bound."""
        request = job.request
        excess = _excess(counts, request)
        if excess == NO_EXCESS and not counts.tool_calls and not self._learned:
            return Judged(counts)
        model = self.models().get(request.model)
        window = model.context_window_tokens if model else None
        verdict = judged(counts, request, window or WINDOW_TOKENS)
        if verdict.told is not None or excess != NO_EXCESS:
            self._tell(request, choice, attempt, verdict)
        self._learn((choice.backend_id, request.model), request, verdict.booked, window)
        return verdict

    def at(self, backend: str) -> dict[str, Excess]:
        """Models and their excess at the backend, for its report."""
        now_s = self.clock.monotonic_s()
        return {
            model: lesson.excess
            for (name, model), lesson in self._learned.items()
            if name == backend and now_s < lesson.until_s
        }

    def _learn(
        self, lane: _Lane, request: RequestAccepted, booked: TokenCounts, window: int | None
    ) -> None:
        """What was learned lasts as long as it is needed; what exceeds it all the same adds to it."""
        now_s, lesson = self.clock.monotonic_s(), self._learned.pop(lane, None)
        if lesson is None or now_s >= lesson.until_s:
            lesson = _Lesson(NO_EXCESS, request.accepted_at_ms, now_s)
        known, beyond = lesson.excess, _excess(booked, request)
        is_held = request.accepted_at_ms > lesson.learned_at_ms + KNOWN_AFTER_MS
        most = window or LEARNED_TOKENS_MAX
        grown = Excess(
            *(
                min(most, before + more if is_held else max(before, more))
                for before, more in zip(known, beyond, strict=True)
            )
        )
        if grown != known:
            lesson = _Lesson(grown, self.clock.now_ms(), now_s + REMEMBERED_S)
        elif _needs(booked, request, known if is_held else NO_EXCESS):
            lesson = replace(lesson, until_s=now_s + REMEMBERED_S)
        if lesson.excess != NO_EXCESS:
            self._learned[lane] = lesson
        if len(self._learned) > _ENTRIES_MAX:
            self._learned.popitem(last=False)

    def _tell(
        self, request: RequestAccepted, choice: Choice, attempt: int, verdict: Judged
    ) -> None:
        said, is_possible = verdict.told or verdict.booked, verdict.told is None
        self.metrics.count("tallygate_excess_usage_total", "booked" if is_possible else "capped")
        _LOG.event(
            LogEvent.USAGE_ABOVE_BOUND,
            **of_request(request),
            attempt=attempt,
            backend=choice.backend_id,
            entity="model/" + request.model,
            input_tokens=said.input_tokens,
            output_tokens=said.output_tokens,
            tool_calls=said.tool_calls,
            input_tokens_bound=request.input_tokens_bound,
            output_tokens_bound=request.output_tokens_bound,
            cause="booked as said" if is_possible else "impossible: booked at the bound",
        )


def _excess(counts: TokenCounts, request: RequestAccepted) -> Excess:
    return Excess(
        max(0, counts.input_tokens - request.input_tokens_bound),
        max(0, counts.output_tokens - request.output_tokens_bound),
    )


def _needs(counts: TokenCounts, request: RequestAccepted, known: Excess) -> bool:
    """Whether the bound would have been exceeded without what is known."""
    return (
        counts.input_tokens > request.input_tokens_bound - known.input_tokens
        or counts.output_tokens > request.output_tokens_bound - known.output_tokens
    )

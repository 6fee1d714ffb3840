"""Remembers what backends' refusals taught about the fields that they take, for an hour each.

What is configured needs no lesson: ``output_limit_field`` of a model is applied where requests come in,
``stream_options`` of a backend here. A lesson counts once a call that heeded it was answered.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from dispatcher.operations import dialect
from dispatcher.operations.dialect import AS_IT_IS, Dialect
from dispatcher.operations.openai_json import names_in
from dispatcher.upstream.upstream_failure import UpstreamFailure
from dispatcher.work import AdmittedRequest, Choice
from schemas.log_events import LogEvent
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

TRIES_MAX: Final = 4
"""Of one call: two names of the limit, none, and no ``stream_options``."""
REMEMBERED_S: Final = 3_600.0
_ENTRIES_MAX: Final = 4_096

_Lane: TypeAlias = tuple[str, str, str]
"""Backend, its URL, and its name of the model."""


@dataclass(frozen=True, slots=True)
class _Lesson:
    dialect: Dialect
    until_s: float


@dataclass(slots=True)
class Dialects:
    """The dialects of all backends; the one learned longest ago makes room."""

    clock: Clock
    _learned: OrderedDict[_Lane, _Lesson] = field(default_factory=OrderedDict)

    def spoken(self, choice: Choice, model: str) -> Dialect:
        """How the backend is asked for the model, as far as that is known."""
        known = AS_IT_IS
        if self._learned:
            lesson = self._learned.get(_lane(choice, model))
            if lesson is not None and self.clock.monotonic_s() < lesson.until_s:
                known = lesson.dialect
        return known if choice.backend.stream_options else replace(known, stream_options=False)

    def answered(self, choice: Choice, model: str, spoken: Dialect) -> None:
        """The backend took a call that was made after a lesson."""
        lane = _lane(choice, model)
        before = self._learned.pop(lane, None)
        self._learned[lane] = _Lesson(spoken, self.clock.monotonic_s() + REMEMBERED_S)
        if len(self._learned) > _ENTRIES_MAX:
            self._learned.popitem(last=False)
        if before is None or before.dialect != spoken:
            _LOG.event(
                LogEvent.DIALECT_LEARNED,
                backend=choice.backend_id,
                entity="model/" + model,
                cause=spoken.told,
            )


def taught(failure: UpstreamFailure, job: AdmittedRequest, spoken: Dialect) -> Dialect | None:
    """The dialect in which a refused call may be made again; ``None`` where its refusal does not say so.

    A refusal of a field has spent nothing. The limit of the output is left out only where no balance that the
    request holds has a limit.
    """
    if failure.may_have_spent or failure.upstream_status not in dialect.STATUSES:
        return None
    sent: dict[str, None] = dict.fromkeys(names_in(job.request.payload))
    spoken.apply(sent)
    is_unlimited = all(hold.limit is None for hold in job.admitted.holds)
    return dialect.lesson(failure.said, sent, spoken, may_be_unlimited=is_unlimited)


def _lane(choice: Choice, model: str) -> _Lane:
    return choice.backend_id, choice.backend.url, choice.upstream_model or model

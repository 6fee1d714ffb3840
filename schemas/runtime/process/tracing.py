"""Records spans: what a process did for a request whose trace is recorded, and when.

A process that records none has no ``Tracer``, and asks ``is None`` where it would. One that does looks a request up by
its id; of one that is not traced it finds nothing and does nothing. Spans that ended wait for the exporter within a
bound, above which they are dropped and counted: nobody waits for them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Final, TypeAlias
from weakref import ReferenceType, ref

from schemas.sampling import Sampler
from schemas.trace_context import TraceContext, trace_id_of_request, traceparent_of

__all__ = ["Kind", "Span", "Tracer", "Value"]

Value: TypeAlias = str | int | float | bool

SPANS_MAX: Final = 4_096
"""Of a process, ended and not exported; some 4 MB."""
_SPAN_ID_BITS: Final = 64


class Kind(IntEnum):
    """What a span is to the one before it. Source: OpenTelemetry's ``SpanKind``."""

    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Span:
    """A piece of work, from its beginning until ``end``; one that is forgotten before that was never there."""

    __slots__ = (
        "__weakref__",
        "_tracer",
        "attributes",
        "ended_ns",
        "error",
        "kind",
        "name",
        "parent_id",
        "span_id",
        "started_ns",
        "trace_id",
    )

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        kind: Kind,
        trace_id: bytes,
        parent_id: bytes,
        attributes: dict[str, Value],
    ) -> None:
        self._tracer = tracer
        self.name = name
        self.kind = kind
        self.trace_id = trace_id
        self.span_id = random.getrandbits(_SPAN_ID_BITS).to_bytes(8)
        self.parent_id = parent_id
        """Empty where the trace begins."""
        self.attributes = attributes
        self.started_ns = tracer.now_ns()
        self.ended_ns = 0
        self.error: str | None = None
        """What went wrong, in a word."""

    @property
    def traceparent(self) -> bytes:
        """The context of whatever follows from it."""
        return traceparent_of(self.trace_id, self.span_id)

    def end(self, error: str | None = None) -> None:
        """It is over, with what went wrong if something did; a second end does nothing."""
        if self.ended_ns:
            return
        self.ended_ns = self._tracer.now_ns()
        self.error = error
        self._tracer.keep(self)


class Tracer:
    """The spans of one process."""

    def __init__(
        self,
        sampler: Sampler,
        now_ns: Callable[[], int],
        *,
        with_content: bool = False,
        spans_max: int = SPANS_MAX,
    ) -> None:
        """``now_ns`` is the time of all processes, in nanoseconds; ``with_content`` allows texts of prompts and
        answers in spans."""
        self.sampler = sampler
        self.with_content = with_content
        self.now_ns = now_ns
        self.ended: deque[Span] = deque()
        """Those that nobody has exported yet."""
        self.dropped = 0
        self.on_ended: Callable[[], None] = _nothing
        self._spans_max = spans_max
        self._open: dict[str, ReferenceType[Span]] = {}
        """A plain dictionary: nine requests in ten are only looked up in it, by all that they pass."""

    def arrived(
        self,
        request_id: str,
        parent: TraceContext | None,
        now_s: float,
    ) -> TraceContext | None:
        """Where a request that arrives stands in its trace; ``None`` for one that is not traced."""
        if not self.sampler.wants(parent, request_id, now_s):
            return None
        if parent is not None:
            return parent
        return TraceContext(trace_id_of_request(request_id), b"", is_sampled=True)

    def open(
        self,
        request_id: str,
        context: TraceContext,
        name: str,
        kind: Kind,
        attributes: dict[str, Value],
    ) -> Span:
        """Begin the span of all that this process does for the request; it is known while somebody holds it."""
        span = Span(self, name, kind, context.trace_id, context.span_id, attributes)
        self._open[request_id] = ref(span, partial(self._forget, request_id))
        return span

    def _forget(self, request_id: str, gone: ReferenceType[Span]) -> None:
        if self._open.get(request_id) is gone:
            del self._open[request_id]

    def of(self, request_id: str) -> Span | None:
        """The span that is open for the request here."""
        found = self._open.get(request_id)
        return None if found is None else found()

    def below(self, parent: Span, name: str, kind: Kind, attributes: dict[str, Value]) -> Span:
        """Begin a span of something that was done for another."""
        return Span(self, name, kind, parent.trace_id, parent.span_id, attributes)

    def keep(self, span: Span) -> None:
        """Keep a span that ended for the exporter, or drop it."""
        if self._has_room():
            self.ended.append(span)
            self.on_ended()

    def keep_again(self, span: Span) -> None:
        """Keep one that was not exported ahead of all others, or drop it."""
        if self._has_room():
            self.ended.appendleft(span)

    def _has_room(self) -> bool:
        """Whether one more may wait; it is dropped where not."""
        if len(self.ended) < self._spans_max:
            return True
        self.dropped += 1
        return False


def _nothing() -> None:
    """Nobody exports yet."""

"""Draws where the time of a request went: a line for each hop, from the times that its own records tell. Pure.

The log has it of every request, traced or not. Times of appending are the broker's clock, all others the ledger's: two
that differ show as a hop that begins early, and none is longer than from one record to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deploy.cli.output import shown

__all__ = ["Hop", "hops_of", "waterfall_text"]

WIDTH: Final = 60
"""Characters of the longest bar."""
_BAR: Final = "#"
_WAIT: Final = "."
_FIRST: Final = ">"

Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hop:
    """One stretch of a request's way."""

    who: str
    what: str
    from_ms: int
    until_ms: int
    is_wait: bool = False
    """Whether nobody did anything."""
    first_ms: int | None = None
    """When the first content left, of a stream."""


def waterfall_text(timeline: Mapping[str, Any]) -> str:
    """The trace's id, then a line for each hop with its beginning, its length and its bar."""
    told, hops = shown(dict(timeline)), hops_of(timeline["steps"])
    head = f"{told['request_id']}  {told['org']}  {told['status']}"
    lines = [head, _trace_line(told.get("trace"))]
    if not hops:
        return "\n".join([*lines, "no hop: the request never reached the log"])
    start_ms, end_ms = min(hop.from_ms for hop in hops), max(hop.until_ms for hop in hops)
    whos, whats = [shown(hop.who) for hop in hops], [shown(hop.what) for hop in hops]
    wide = max(map(len, whos)), max(map(len, whats))
    numbers = [(f"+{hop.from_ms - start_ms}", str(hop.until_ms - hop.from_ms)) for hop in hops]
    at, took = (max(map(len, column)) for column in zip(*numbers, ("from", "took"), strict=True))
    lines.append(
        f"{'hop':<{wide[0]}}  {'':<{wide[1]}}  {'from':>{at}}  {'took':>{took}} ms"
        f"  |{f' {end_ms - start_ms} ms in all':<{WIDTH}}|"
    )
    for hop, who, what, (begins, length) in zip(hops, whos, whats, numbers, strict=True):
        lines.append(
            f"{who:<{wide[0]}}  {what:<{wide[1]}}  {begins:>{at}}  {length:>{took}} ms"
            f"  |{_bar(hop, start_ms, end_ms)}|"
        )
    return "\n".join(lines)


def hops_of(steps: Sequence[Step]) -> list[Hop]:
    """The hops in the order of time; copies without effect are none."""
    hops: list[Hop] = []
    at_ms: int | None = None
    for step in steps:
        if (step["note"] or "").startswith("copy"):
            continue
        new = list(_hops_to(step, at_ms))
        hops += new
        if step["what"] != "usage":
            at_ms = max([at_ms or 0, *(hop.until_ms for hop in new)]) or None
    return hops


def _hops_to(step: Step, since_ms: int | None) -> Iterator[Hop]:
    """What led to a step, where the one before it was done at ``since_ms``."""
    at_ms, facts = step["at_ms"], step["facts"]
    begins_ms = at_ms if since_ms is None else min(since_ms, at_ms)
    match step["what"]:
        case "accepted":
            yield Hop(
                "ingress", "to the log", at_ms, max(at_ms, facts.get("appended_at_ms", at_ms))
            )
        case "deferred":
            yield Hop("limiter_worker", "decides to wait", begins_ms, at_ms)
            if (until_ms := facts["not_before_ms"]) is not None and until_ms > at_ms:
                yield Hop("limiter_worker", "waits for its limit", at_ms, until_ms, is_wait=True)
        case "admitted":
            yield Hop("limiter_worker", "admits", begins_ms, at_ms)
        case "attempt":
            if since_ms is not None and since_ms < at_ms:
                yield Hop("dispatcher", "claims it, finds a slot", since_ms, at_ms)
            yield _attempt(at_ms, facts)
        case "finished":
            done_ms = max(begins_ms, facts.get("appended_at_ms", at_ms))
            who = "dispatcher" if facts["fence"] else "limiter_worker"
            what = "settles, answers" if facts["status"] == "completed" else f"{facts['status']}"
            yield Hop(who, what, begins_ms, done_ms)
        case "usage":
            yield Hop("accounting", "books", begins_ms, max(begins_ms, at_ms))
        case _:
            return


def _attempt(at_ms: int, facts: Mapping[str, Any]) -> Hop:
    what = f"attempt {facts['attempt']} {facts['status']}"
    until_ms = max(at_ms, facts["finished_at_ms"])
    return Hop(facts["backend"], what, at_ms, until_ms, first_ms=facts["first_token_at_ms"])


def _trace_line(trace: Mapping[str, Any] | None) -> str:
    if trace is None:
        return "no trace: its client sent no traceparent, and it was not traced here"
    recorded = "its spans are with your collector" if trace["is_recorded"] else "not recorded here"
    return f"trace {trace['trace_id']}  {recorded}"


def _bar(hop: Hop, start_ms: int, end_ms: int) -> str:
    """The hop's stretch of the whole; one that took no time has a character all the same."""
    whole_ms = max(1, end_ms - start_ms)

    def at(ms: int) -> int:
        return round((ms - start_ms) * WIDTH / whole_ms)

    begins = min(at(hop.from_ms), WIDTH - 1)
    length = max(1, at(hop.until_ms) - begins)
    bar = [_WAIT if hop.is_wait else _BAR] * length
    if hop.first_ms is not None:
        bar[max(0, min(length - 1, at(hop.first_ms) - begins))] = _FIRST
    return f"{' ' * begins}{''.join(bar)}".ljust(WIDTH)

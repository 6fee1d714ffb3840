"""What clients saw, second by second: a table of answers by the second in which they came. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.evidence import OK, ClientRequest, Exchange

COLUMNS: Final = ("ok", "402", "429", "503", "504", "other", "no answer")
_LOST: Final = (
    "timeout",
    "broken_answer",
    "ClientConnectorError",
    "ServerDisconnectedError",
    "ClientOSError",
)


@dataclass
class Second:
    """The answers that came within one second."""

    answers: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    """Of the successful ones."""


def column_of(exchange: Exchange) -> str:
    """Where an answer is counted."""
    if exchange.result == OK:
        return OK
    status = exchange.result.partition(" ")[0]
    if status in COLUMNS:
        return status
    return "no answer" if status in _LOST else "other"


def seconds_of(clients: Iterable[ClientRequest], zero_s: float) -> dict[int, Second]:
    """All tries by the second, from ``zero_s`` on, in which they ended; earlier ones are negative."""
    seconds: dict[int, Second] = defaultdict(Second)
    for exchange in (t for client in clients for t in client.tries):
        second = seconds[int((exchange.ended_s - zero_s) // 1)]
        second.answers[column_of(exchange)] += 1
        if exchange.result == OK:
            second.slowest_s = max(second.slowest_s, exchange.ended_s - exchange.sent_s)
    return dict(seconds)


def render_seconds(seconds: dict[int, Second], first: int, last: int) -> str:
    """The table, one line a second."""
    lines = [f"{'second':>7}" + "".join(f"{name:>10}" for name in COLUMNS) + f"{'slowest s':>11}"]
    for number in range(first, last + 1):
        second = seconds.get(number, Second())
        counts = "".join(f"{second.answers[name] or '.':>10}" for name in COLUMNS)
        lines.append(f"{number:>7}{counts}{second.slowest_s:>11.2f}")
    return "\n".join(lines)

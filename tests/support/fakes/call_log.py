"""The fake backend's call log: the oracle that tests hold the gateway's numbers against.

One JSON line when a call starts and one when it ends. Each line is one `write` on an O_APPEND
descriptor, so it is in the kernel before the client can see an answer and survives any kill -9.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec


class Start(msgspec.Struct, frozen=True, tag="start", tag_field="event"):
    """A call arrived. `request_id` is the `x-request-id` header it carried."""

    call_id: str
    at_ms: int
    request_id: str | None
    model: str
    stream: bool
    has_gateway_key: bool
    """True when a key of the gateway itself leaked into the Authorization header."""


class End(msgspec.Struct, frozen=True, tag="end", tag_field="event"):
    """A call ended. Tokens are those really spent, whatever usage was reported to the caller."""

    call_id: str
    at_ms: int
    status: int
    prompt_tokens: int
    completion_tokens: int
    text_sha256: str
    client_closed: bool


class Call(msgspec.Struct, frozen=True):
    """One call; `end` is None while it runs, or when the backend was killed in it."""

    start: Start
    end: End | None

    @property
    def prompt_tokens(self) -> int:
        return self.end.prompt_tokens if self.end else 0

    @property
    def completion_tokens(self) -> int:
        return self.end.completion_tokens if self.end else 0


class Totals(msgspec.Struct, frozen=True):
    """Sums over calls."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


class CallLogWriter:
    """Appends to one log file; several writers may share a file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._encoder = msgspec.json.Encoder()

    def append(self, line: Start | End) -> None:
        """Write one line; it is in the kernel when this returns."""
        os.write(self._descriptor, self._encoder.encode(line) + b"\n")

    def close(self) -> None:
        os.close(self._descriptor)


def read_calls(*paths: Path) -> tuple[Call, ...]:
    """The calls of the given logs in the order they started; a log that is missing is empty."""
    lines = [line for path in paths if path.exists() for line in _lines(path)]
    ends = {line.call_id: line for line in lines if isinstance(line, End)}
    starts = sorted((line for line in lines if isinstance(line, Start)), key=lambda s: s.at_ms)
    return tuple(Call(start, ends.get(start.call_id)) for start in starts)


def totals(calls: Iterable[Call]) -> Totals:
    """Calls and tokens, summed."""
    listed = tuple(calls)
    return Totals(
        calls=len(listed),
        prompt_tokens=sum(call.prompt_tokens for call in listed),
        completion_tokens=sum(call.completion_tokens for call in listed),
    )


def most_at_once(calls: Iterable[Call]) -> int:
    """The largest number of calls that ran at the same time; an unfinished one runs for ever."""
    steps: list[tuple[float, int]] = []
    for call in calls:
        steps += [(call.start.at_ms, 1), (call.end.at_ms if call.end else float("inf"), -1)]
    running = peak = 0
    # At equal times ends come first, so that touching calls do not count as overlapping.
    for _, step in sorted(steps):
        running += step
        peak = max(peak, running)
    return peak


def _lines(path: Path) -> Iterator[Start | End]:
    decoder = msgspec.json.Decoder(Start | End)
    for line in path.read_bytes().splitlines(keepends=True):
        # A last line without its newline was cut off by a kill of the backend itself.
        if line.endswith(b"\n"):
            yield decoder.decode(line)

"""Remembers what the user-org service said of whom, for stated times and within bounds. Pure; times are monotonic seconds.

Whoever was not asked about for longest is forgotten first. Who is known and who is not are remembered apart, so that a
flood of invented credentials makes nobody forgotten who is known.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ingress.auth.user_org.answers import Found, Unknown

__all__ = ["Memory", "Remembered"]

_BYTES_MAX: Final = 64 * 1024 * 1024
_ENTRY_BYTES: Final = 512
"""What an entry takes beside its answer."""


@dataclass(slots=True)
class Remembered:
    """The last answer about somebody."""

    said: Found | Unknown
    said_at_s: float
    again_at_s: float = 0.0
    """When the service may be asked again, after it could not be."""

    @property
    def size_bytes(self) -> int:
        """What it counts for."""
        return _ENTRY_BYTES + (self.said.size_bytes if isinstance(self.said, Found) else 0)


@dataclass(slots=True)
class _Shelf:
    """Answers of one kind, within bounds."""

    entries_max: int
    bytes_max: int
    entries: OrderedDict[bytes, Remembered] = field(default_factory=OrderedDict)
    size_bytes: int = 0

    def put(self, who: bytes, entry: Remembered) -> None:
        self.drop(who)
        self.entries[who] = entry
        self.size_bytes += entry.size_bytes
        while len(self.entries) > self.entries_max or self.size_bytes > self.bytes_max:
            self.drop(next(iter(self.entries)))

    def drop(self, who: bytes) -> None:
        entry = self.entries.pop(who, None)
        self.size_bytes -= 0 if entry is None else entry.size_bytes

    def find(self, who: bytes) -> Remembered | None:
        entry = self.entries.get(who)
        if entry is not None:
            self.entries.move_to_end(who)
        return entry


class Memory:
    """The answers of one service."""

    def __init__(
        self,
        entries_max: int,
        *,
        fresh_s: float,
        unknown_s: float,
        stale_s: float,
        bytes_max: int = _BYTES_MAX,
    ) -> None:
        self._fresh_s, self._unknown_s, self._stale_s = fresh_s, unknown_s, stale_s
        self._known = _Shelf(entries_max, bytes_max)
        self._unknown = _Shelf(entries_max, bytes_max)

    def find(self, who: bytes) -> Remembered | None:
        """The last answer, however old."""
        return self._known.find(who) or self._unknown.find(who)

    def is_fresh(self, found: Remembered, now_s: float) -> bool:
        """Whether it is taken without asking."""
        life_s = self._fresh_s if isinstance(found.said, Found) else self._unknown_s
        return now_s < found.said_at_s + life_s

    def is_ageing(self, found: Remembered, now_s: float) -> bool:
        """Whether it is time to ask again while it is still taken, so that nobody waits for that."""
        is_old = now_s >= found.said_at_s + self._fresh_s / 2
        return is_old and isinstance(found.said, Found) and now_s >= found.again_at_s

    def is_usable(self, found: Remembered, now_s: float) -> bool:
        """Whether it is taken where the service cannot be asked; that it knows nobody is not."""
        life_s = self._fresh_s + self._stale_s
        return isinstance(found.said, Found) and now_s < found.said_at_s + life_s

    def note(self, who: bytes, said: Found | Unknown, now_s: float) -> None:
        """The service said it."""
        is_known = isinstance(said, Found)
        (self._unknown if is_known else self._known).drop(who)
        (self._known if is_known else self._unknown).put(who, Remembered(said, now_s))

    def __len__(self) -> int:
        return len(self._known.entries) + len(self._unknown.entries)

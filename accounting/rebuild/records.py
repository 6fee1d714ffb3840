"""Records as the log hands them to a rebuild. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["LogRecord"]


class LogRecord(Protocol):
    """A record of a partition that whoever reads it knows."""

    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...  # noqa: D102

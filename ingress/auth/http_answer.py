"""The answer of a service that identities depend on, as bytes that nobody has believed yet. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer within its bounds, whatever its status."""

    status: int
    body: bytes
    etag: str | None

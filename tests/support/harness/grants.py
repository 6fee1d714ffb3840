"""Grants: keys that tests make for organizations of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

UNLIMITED = {"requests_per_s": 100_000, "burst": 100_000}


@dataclass(frozen=True)
class Grant:
    """A key that was just made, and who pays for it."""

    org: str
    key: str
    key_id: str


MakeKey = Callable[..., Grant]

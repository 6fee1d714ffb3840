"""Decides nothing: who a caller is, and how one kind of credentials tells callers. Pure.

A verdict is a caller, a refusal, or ``None``: these credentials are of another kind, so the next one is asked.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import msgspec

from ingress.http.refusals import Refusal
from ingress.http.request import Credentials
from schemas.config_state import Snapshot

__all__ = ["Authenticator", "Caller", "Verdict"]


class Caller(msgspec.Struct, frozen=True):
    """Who pays for a request, which models it may use (``None``: all), and what else it is limited to."""

    key_id: str
    """What limits, usage lines and audits know the caller by beside its organization: the id of its API key, or what
    stands for one (``schemas/caller_ids.py``)."""
    org: str
    project: str | None
    user: str | None
    models: tuple[str, ...] | None
    scopes: tuple[str, ...] | None = None
    """What it may do; ``None``: everything."""
    networks: tuple[str, ...] | None = None
    """Where it may call from; ``None``: everywhere."""
    owner: str | None = None
    """Whose own idempotency keys and jobs these are; ``None`` for programs, which share those of their organization."""
    alias: str | None = None
    """Organization and user behind a ``key_id`` that many share: what the gatekeeper counts by then, and what audits of
    its refusals name."""


Verdict: TypeAlias = Caller | Refusal | None


class Authenticator(Protocol):
    """Tells callers from credentials of one kind, where that may need somebody else's answer.

    It runs before any limit of the caller applies, because nobody is known yet: whoever waits in here bounds how long and
    how many, and refuses with 503 what cannot be told in time. What it raises costs its own request.
    """

    async def tell(self, credentials: Credentials, snapshot: Snapshot, now_ms: int) -> Verdict:
        """Who calls, by Unix milliseconds ``now_ms``; ``None`` where the credentials are of another kind."""

"""Composes authenticators: each is asked in turn, until one says that the credentials are its kind. Pure.

API keys come first and wait for nothing; the others are asked only about what is no API key, so that who uses a key pays
nothing for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ingress.auth.api_key import NOT_VALID, ApiKeys
from ingress.auth.caller import Authenticator, Caller
from ingress.auth.signature import Unproven
from ingress.http.refusals import Refusal
from ingress.http.request import Credentials
from schemas.config_state import Snapshot

Told: TypeAlias = Caller | Unproven | Refusal
"""Who calls, who calls if the body proves it, or why nobody is let in."""
TOLD: Final = (Caller, Unproven, Refusal)
"""What needs no waiting."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Whose credentials are known here, kind by kind."""

    keys: ApiKeys
    others: Sequence[Authenticator] = ()

    def ask_others(
        self, credentials: Credentials, snapshot: Snapshot, now_ms: int
    ) -> Told | Awaitable[Told]:
        """Who calls with credentials that are no API key; 401 at once where nothing else is known here."""
        return self._ask(credentials, snapshot, now_ms) if self.others else NOT_VALID

    async def _ask(self, credentials: Credentials, snapshot: Snapshot, now_ms: int) -> Told:
        for authenticator in self.others:
            verdict = await authenticator.tell(credentials, snapshot, now_ms)
            if verdict is not None:
                return verdict
        return NOT_VALID

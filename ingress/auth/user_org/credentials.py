"""Tells callers from credentials that only the user-org service knows: an authenticator, the last one asked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ingress.auth.caller import Verdict
from ingress.auth.callers_file import UserOrgService
from ingress.auth.identity import placed
from ingress.auth.user_org.directory import Directory
from ingress.http.refusals import Refusal
from ingress.http.request import Credentials
from schemas.config_state import Snapshot

__all__ = ["OpaqueCredentials"]

_FORM: Final = re.compile(r"[\x21-\x7e]{8,512}")


@dataclass(frozen=True, slots=True)
class OpaqueCredentials:
    """Asks about what has the form of a credential and, where that is configured, begins like one of the service's."""

    service: UserOrgService
    directory: Directory

    async def tell(self, credentials: Credentials, snapshot: Snapshot, now_ms: int) -> Verdict:  # noqa: ARG002  # an authenticator's
        """The caller whose credential it is; ``None`` where the service knows it neither, 503 while it cannot be asked."""
        secret, prefixes = credentials.secret, self.service.credential_prefixes
        if not _FORM.fullmatch(secret) or (prefixes and not secret.startswith(prefixes)):
            return None
        identity = await self.directory.credential(secret)
        if identity is None or isinstance(identity, Refusal):
            return identity
        return placed(identity, snapshot)

"""Opens what callers without an API key are told by, as the callers file says: identity providers, the user-org service.

Where it names none, nothing of that is even imported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from ingress.auth.caller import Authenticator
from ingress.auth.callers_file import NOBODY, CallersFile
from schemas.readiness import DEGRADED, OK
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics

__all__ = ["Outside", "open_outside"]

_CONNECTIONS: Final = 4
"""To an identity provider, which is asked one thing at a time."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Who is asked about callers, beside the configuration."""

    authenticators: Sequence[Authenticator] = ()
    background: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What keeps their keys current, by name."""
    clients: Sequence[httpx.AsyncClient] = ()
    troubles: Mapping[str, Callable[[], str | None]] = field(default_factory=dict)
    """By component why it could not be asked last; requests of other callers do not need it."""

    def components(self) -> dict[str, str]:
        """Component to ``ok``, or what is wrong with it."""
        return {name: _component(trouble()) for name, trouble in self.troubles.items()}

    async def stop(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.aclose() for client in self.clients))


def open_outside(
    said: CallersFile, token: str | None, folder: Path, clock: Clock, metrics: Metrics
) -> Outside:
    """What the callers file names; ``token`` is what the user-org service knows us by, and ``folder`` where key sets
    are kept. Raises ``OSError`` when a file of certificates cannot be read. Nothing connects before it is used.
    """
    if said == NOBODY:
        return Outside()
    from ingress.auth.bounded_get import bounded_client  # noqa: PLC0415  # 9 MB that few need
    from ingress.auth.oidc.issuer_keys import IssuerKeys  # noqa: PLC0415
    from ingress.auth.oidc.tokens import IssuerTokens, Tokens  # noqa: PLC0415
    from ingress.auth.user_org.credentials import OpaqueCredentials  # noqa: PLC0415
    from ingress.auth.user_org.directory import Directory  # noqa: PLC0415

    clients: list[httpx.AsyncClient] = []
    authenticators: list[Authenticator] = []
    troubles: dict[str, Callable[[], str | None]] = {}
    directory, service = None, said.user_org
    if service is not None:
        clients.append(bounded_client(service.ca_file, 2 * service.concurrency))
        directory = Directory(service, token, clients[-1], clock.monotonic_s, metrics)
        troubles["user-org"] = directory.told_trouble
    issuers = []
    for issuer in said.oidc:
        clients.append(bounded_client(issuer.ca_file, _CONNECTIONS))
        keys = IssuerKeys(issuer, clients[-1], folder, clock, metrics)
        issuers.append(IssuerTokens(issuer, keys, directory if issuer.user_org else None))
        troubles[issuer.key_id] = keys.told_trouble
    if issuers:
        authenticators.append(Tokens(issuers, metrics))
    if service is not None and directory is not None and service.credentials:
        authenticators.append(OpaqueCredentials(service, directory))
    background = {each.issuer.key_id: each.keys.run for each in issuers}
    return Outside(authenticators, background, clients, troubles)


def _component(trouble: str | None) -> str:
    return OK if trouble is None else f"{DEGRADED}{trouble}"

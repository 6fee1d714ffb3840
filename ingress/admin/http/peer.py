"""Who is at the other end of a connection, by its certificate; the protocol puts it into each request's scope."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from schemas.admin_roles import identity_of

__all__ = ["PEER", "Peer", "actor_of", "peer_of", "peer_of_transport"]

PEER: Final = "peer"
"""Its name in the state of a scope."""
_LOCAL_ACTOR: Final = "admin"
"""Whoever is on this machine, where the port has no TLS."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What a verified certificate says of its holder."""

    identity: str | None
    """``None`` where it has none (`schemas/admin_roles.py`)."""
    expires_at_s: float
    """Unix seconds. A connection may outlive its certificate."""


def peer_of_transport(transport: asyncio.BaseTransport) -> Peer | None:
    """The peer of a TLS connection whose client was asked for a certificate; ``None`` without TLS."""
    certificate = transport.get_extra_info("peercert")
    if not certificate:
        return None
    return Peer(identity_of(certificate), ssl.cert_time_to_seconds(certificate["notAfter"]))


def peer_of(scope: Scope) -> Peer | None:
    """The peer of a request; ``None`` without TLS."""
    peer = scope.get("state", {}).get(PEER)
    return peer if isinstance(peer, Peer) else None


def actor_of(scope: Scope) -> str:
    """Who is named in audit records and configuration entries as the one who asked for it."""
    peer = peer_of(scope)
    return _LOCAL_ACTOR if peer is None or peer.identity is None else peer.identity

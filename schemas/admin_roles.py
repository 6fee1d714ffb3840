"""Roles of the control plane: what a client's certificate is called, which roles there are, who has which. Pure.

An identity is ``uri:``, ``dns:`` or ``cn:`` and the one name of that kind in the certificate (RFC 5280 section
4.2.1.6; RFC 6125 prefers the kinds in this order). Where a certificate has two names of its first kind, nobody can
say which of them is meant, and it has no identity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

__all__ = ["Role", "identity_of", "read_roles"]

_IDENTITY: Final = re.compile(r"(uri|dns|cn):[!-~](?:[ -~]{0,198}[!-~])?")
"""Printable ASCII, because it stands in logs, audit records and a file of lines."""


class Role(StrEnum):
    """What an administrator is trusted with; `ingress/admin/route_roles.py` says what each may do."""

    VIEWER = "viewer"
    """Sees states and the configuration, and no text of a request."""
    OPERATOR = "operator"
    """Keeps the gateway running: backends, models, dead letters, rebuilds, what became of a request."""
    FINANCE = "finance"
    """Sees what was used and whether the books agree, and sets prices."""
    OWNER = "owner"
    """May do everything; organizations, their limits and keys are the owner's alone."""


def identity_of(certificate: Mapping[str, Any]) -> str | None:
    """The identity in a verified certificate as ``SSLSocket.getpeercert`` gives it; ``None`` if it has none."""
    for kind, names in _names(certificate):
        if names:
            identity = f"{kind}:{names[0]}"
            is_one = len(set(names)) == 1 and _IDENTITY.fullmatch(identity) is not None
            return identity if is_one else None
    return None


def read_roles(text: str) -> Mapping[str, Role]:
    """The role of each identity, from lines such as ``owner uri:spiffe://example.org/alice``; a line with ``#`` in front says nothing.

    Raises ``ValueError`` with the line that cannot be read, or is said twice, and for a text that names nobody.
    """
    roles: dict[str, Role] = {}
    for number, line in enumerate(text.splitlines(), 1):
        said = line.strip()
        # Not within a line: a name may have one.
        if not said or said.startswith("#"):
            continue
        name, _, rest = said.partition(" ")
        identity = rest.strip()
        if name not in set(Role):
            raise ValueError(f"line {number}: {name!r} is none of {', '.join(Role)}")
        if _IDENTITY.fullmatch(identity) is None:
            raise ValueError(f"line {number}: {identity!r} is no uri:, dns: or cn: with a name")
        if identity in roles:
            raise ValueError(f"line {number}: {identity} has a role already")
        roles[identity] = Role(name)
    if not roles:
        raise ValueError("it gives nobody a role")
    return MappingProxyType(roles)


def _names(certificate: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    others = certificate.get("subjectAltName", ())
    yield "uri", [name for kind, name in others if kind == "URI"]
    yield "dns", [name.lower() for kind, name in others if kind == "DNS"]
    parts = [part for parts in certificate.get("subject", ()) for part in parts]
    yield "cn", [name for kind, name in parts if kind == "commonName"]

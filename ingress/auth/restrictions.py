"""Decides what a known caller may not do: beyond its scopes, and from outside its networks. Pure.

An address is that of the connection. Behind proxies it is theirs, unless the gateway was told which proxies to trust: then
it is the nearest address in ``X-Forwarded-For`` that is none of them, because whatever stands before that one was written
by the client. What is no address there, such as a name, is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.networks import Address, address_in, is_inside
from schemas.operations import KeyScope

__all__ = ["NeededScope", "client_address", "refuse_scope", "refuse_use"]

_WITH_PORT: Final = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?|([^:]*):[0-9]{1,5}")
"""As some proxies write an address: ``[2001:db8::1]:443``, ``192.0.2.1:443``."""
_HOPS_MAX: Final = 32

NeededScope: TypeAlias = KeyScope | tuple[KeyScope, ...]
"""What is needed for something; of several, any."""


def refuse_use(
    caller: Caller, scope: NeededScope, head: Mapping[str, Any], proxies: tuple[str, ...]
) -> Refusal | None:
    """Why the caller may not do this, or not from where it calls; ``proxies`` are networks of trusted ones."""
    refusal = refuse_scope(caller, scope)
    if refusal is not None or caller.networks is None:
        return refusal
    address = client_address(head, proxies)
    if address is not None and is_inside(address, caller.networks):
        return None
    message = f"The key may not be used from {address or 'an unknown address'}."
    return Refusal(ErrorCode.KEY_NOT_ALLOWED, message)


def refuse_scope(caller: Caller, scope: NeededScope) -> Refusal | None:
    """Why the caller may not do what needs this scope."""
    wanted = (scope,) if isinstance(scope, str) else scope
    if caller.scopes is None or any(each in caller.scopes for each in wanted):
        return None
    message = f"The key may not do this: it lacks the scope {' or '.join(wanted)}."
    return Refusal(ErrorCode.KEY_NOT_ALLOWED, message)


def client_address(head: Mapping[str, Any], proxies: tuple[str, ...]) -> Address | None:
    """Where a request comes from; ``None`` where that cannot be told."""
    client = head.get("client")
    address = None if client is None else address_in(client[0])
    if not proxies or address is None or not is_inside(address, proxies):
        return address
    sent = (value for name, value in head["headers"] if name == b"x-forwarded-for")
    hops = b",".join(sent).decode("latin-1").split(",")
    for hop in reversed(hops[-_HOPS_MAX:]):
        address = _hop_address(hop.strip())
        if address is None or not is_inside(address, proxies):
            return address
    return address


def _hop_address(text: str) -> Address | None:
    with_port = _WITH_PORT.fullmatch(text)
    return address_in(text if with_port is None else with_port[1] or with_port[2] or "")

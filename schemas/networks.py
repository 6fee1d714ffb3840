"""Addresses and networks of IPv4 and IPv6: how they are read, and which address lies in which network. Pure.

An address of IPv4 in its IPv6 form (``::ffff:10.0.0.1``) is the one of IPv4, as a socket for both would have told it.
Source: RFC 4291 section 2.5.5.2, RFC 4632.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final, TypeAlias

__all__ = ["Address", "address_in", "is_inside", "is_public", "network_problem"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC: Final[tuple[_Network, ...]] = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "2001::/32", "2002::/16", "3fff::/20"))
)
"""What ``ipaddress`` takes for global: of protocols, and what leads to an address of IPv4, whatever that is (Teredo,
6to4); documentation."""


def address_in(text: str) -> Address | None:
    """The address that a text is; ``None`` for anything else. A zone (``fe80::1%eth0``) is left out."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def network_problem(text: str) -> str | None:
    """Why a text is no network; ``None`` for one such as ``10.0.0.0/8``, ``2001:db8::/32`` or a single address."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        return f"{error}; a network is such as 10.0.0.0/8 or 2001:db8::/32"
    if isinstance(network, ipaddress.IPv6Network) and network.overlaps(_MAPPED):
        return f"{text} covers addresses of IPv4 in the form of IPv6; write them as IPv4"
    return None


def is_public(address: Address) -> bool:
    """Whether an address is one of the Internet: neither of a private network nor of this machine, no group, and none
    that leads to an address of IPv4. Source: the special-purpose registries of IANA, RFC 6890."""
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return False
    is_special = any(address in each for each in _NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not is_special


def is_inside(address: Address, networks: tuple[str, ...]) -> bool:
    """Whether an address lies in one of the networks, none of which has a problem."""
    return any(address in network for network in _read(networks))


@lru_cache(maxsize=1_024)
def _read(networks: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(map(ipaddress.ip_network, networks))

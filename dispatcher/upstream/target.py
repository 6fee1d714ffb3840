"""Says where a backend is called and how a call begins on the wire. Pure.

A header that could end early is none: a value with a line end or another control character is refused (RFC 9110, 5.5).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from yarl import URL

from schemas.backend_url import operation_url
from schemas.failures import Poison

__all__ = ["Origin", "Place", "Uncallable", "place", "request_head", "target"]

_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,253}")


class Uncallable(Poison):
    """No request can be made to a backend as it is configured: its URL or its key is unusable."""


class Origin(NamedTuple):
    """Backends that can share a connection."""

    host: str
    """As it is looked up: ASCII, an IPv6 address without brackets."""
    port: int
    is_tls: bool


class Place(NamedTuple):
    """Where one operation of a backend is called."""

    origin: Origin
    start: str
    """The request line and the Host header, with their line ends."""


@functools.lru_cache(maxsize=4_096)
def target(url: str, path: str) -> URL:
    """Where to call; ``Uncallable`` where the configured URL is none that a client can call."""
    try:
        target = URL(operation_url(url, path))
        host = target.raw_host or ""
        host.encode("idna")
    except (ValueError, IndexError) as error:  # yarl raises both
        raise Uncallable("no URL") from error
    if target.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or not target.port:
        raise Uncallable("no URL of a server")
    return target


@functools.lru_cache(maxsize=4_096)
def place(url: str, path: str) -> Place:
    """The operation at this path, as calls need it; raises ``Uncallable`` as ``target`` does."""
    called = target(url, path)
    host, port = called.raw_host, called.port
    assert host is not None
    assert port is not None
    authority = called.host_port_subcomponent
    start = f"POST {called.raw_path_qs} HTTP/1.1\r\nHost: {authority}\r\n"
    return Place(Origin(host, port, called.scheme == "https"), start)


def request_head(place: Place, headers: Mapping[str, str], body_bytes: int) -> bytes:
    """The head of a call. Raises ``Uncallable`` for a value that no header can carry."""
    lines = [place.start]
    for name, value in headers.items():
        if not value.isprintable():
            raise Uncallable(f"{name} is unusable")
        lines.append(f"{name}: {value}\r\n")
    lines.append(f"Content-Length: {body_bytes}\r\n\r\n")
    try:
        return "".join(lines).encode("ascii")
    except UnicodeEncodeError as error:
        raise Uncallable("a header is not ASCII") from error

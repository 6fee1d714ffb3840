"""The address of a backend, judged by the parser that calls it later. Pure.

An address is refused where it is configured, so that no process meets one that its HTTP client cannot
parse. The grammar is narrower than what ``yarl`` (aiohttp's parser) takes: a typo is an error here and
not another host there. Sources: RFC 3986, RFC 1123 (host names), RFC 6874 is not supported (zones).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from yarl import URL

__all__ = ["URL_CHARS_MAX", "operation_url", "url_problem"]

URL_CHARS_MAX: Final = 2_048

_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_HOST_CHARS_MAX: Final = 253
_PORT: Final = re.compile(r"[0-9]{1,5}")
_PORT_MAX: Final = 65_535
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HAS_PORT: Final = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:(?P<port>.*))?", re.DOTALL)


def url_problem(url: str) -> str | None:
    """What is wrong with a backend's address; ``None`` when every part of it can be used."""
    if len(url) > URL_CHARS_MAX:
        return f"a url has at most {URL_CHARS_MAX} characters"
    if not url.isprintable() or any(char in url for char in ' \\"<>^`{|}'):
        return "a url has no spaces, control characters, backslashes, quotes or brackets"
    if "#" in url:
        return "a url has no fragment (#)"
    if _BAD_PERCENT.search(url):
        return "a percent sign in a url is followed by two hexadecimal digits"
    try:
        parts = urlsplit(url)
        parsed = URL(url)
        host = parsed.raw_host
    except (ValueError, IndexError) as error:  # yarl looks into an empty host behind "[" and "@"
        return f"the url cannot be parsed: {str(error)[:200]}"
    if parts.scheme not in ("http", "https"):
        return "a url begins with http:// or https://"
    return _authority_problem(parts.netloc) or _host_problem(host)


def operation_url(url: str, path: str) -> str:
    """Where an operation of a backend is called: its path stands before the query that the address may have, and
    ``/v1`` is added to a bare host. Raises ``ValueError`` for what ``url_problem`` refuses.
    """
    parts = urlsplit(url)
    base = parts.path.rstrip("/") or "/v1"
    return urlunsplit((parts.scheme, parts.netloc, f"{base}/{path}", parts.query, ""))


def _authority_problem(authority: str) -> str | None:
    if "@" in authority:
        return "a url names no user and no password; a key comes from api_key_env"
    match = _HAS_PORT.fullmatch(authority)
    if match is None:
        return "the host of the url cannot be parsed"
    if authority.startswith("[") and ":" not in match[1]:
        return "what stands in [] is no IPv6 address"
    port = match["port"]
    if port is not None and not (_PORT.fullmatch(port) and 1 <= int(port) <= _PORT_MAX):
        return f"the port of the url is not a number from 1 to {_PORT_MAX}"
    return None


def _host_problem(host: str | None) -> str | None:
    """Of the host as it is looked up: ASCII, international names encoded."""
    if not host:
        return "the url has no host"
    if ":" in host:
        return (
            None if "%" not in host and _is_address(host) else f"{host[:64]!r} is no IPv6 address"
        )
    name = host.removesuffix(".")
    labels = name.split(".")
    if len(name) > _HOST_CHARS_MAX or not all(map(_LABEL.fullmatch, labels)):
        return f"{host[:64]!r} is no host name"
    # What looks like a number is one to the resolver: 1.2.3 and 0x7f would be other hosts than meant.
    if _NUMBER.fullmatch(labels[-1]) and not _is_address(name):
        return f"{host[:64]!r} is no IPv4 address"
    return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

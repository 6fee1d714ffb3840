"""Where a store stands, as one setting says it. Pure.

``redis://[user:password@]host[:port][/database]``, one server; ``rediss://`` over TLS.
``redis+cluster://host:port,host:port``, a cluster, found through any of these servers.
``redis+sentinel://host:port,host:port/name``, the primary that Sentinels name.
``rediss+cluster://`` and ``rediss+sentinel://`` over TLS. Files of TLS are options behind a question mark, under
redis-py's names: ``ssl_ca_certs`` (the system's authorities without it), ``ssl_certfile``, ``ssl_keyfile``. Whoever
answers is always verified: there is no option against it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

PORT: Final = 6379
SENTINEL_PORT: Final = 26_379
_PORT_MAX: Final = 65_535
TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Who vouches for servers, who we are to them, and its key."""
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")


class Kind(Enum):
    """What answers at the address."""

    ALONE = "redis"
    CLUSTER = "redis+cluster"
    SENTINEL = "redis+sentinel"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host name or address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are to a server that asks."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM: who vouches for servers, who we are to them."""

    authorities: str | None
    certificate: str | None
    key: str | None


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A store's place, and what it takes to be let in."""

    kind: Kind
    servers: tuple[Endpoint, ...]
    """Of Sentinel: the Sentinels."""
    login: Login | None
    tls: Tls | None
    database: int
    primary: str
    """The name under which Sentinels know the primary."""
    sentinel_login: Login | None


def read_address(url: str) -> StoreAddress:
    """The address in a setting. Raises ``ValueError`` with a sentence for whoever wrote it, without secrets."""
    parts = urlsplit(url if "://" in url else f"redis://{url}")
    is_tls = parts.scheme.startswith("rediss")
    kind = _kind(parts.scheme)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    options = _options(parts.query, kind, is_tls=is_tls)
    name, database = _path(parts.path, kind)
    default = SENTINEL_PORT if kind is Kind.SENTINEL else PORT
    servers = tuple(_endpoint(host, default) for host in hosts.split(","))
    if kind is Kind.ALONE and len(servers) > 1:
        raise ValueError("several servers are a cluster: redis+cluster://, or redis+sentinel://")
    return StoreAddress(
        kind=kind,
        servers=servers,
        login=read_login(*userinfo.partition(":")[::2]),
        tls=read_tls(options) if is_tls else None,
        database=database,
        primary=name,
        sentinel_login=read_login(*(options.get(option, "") for option in _SENTINEL_OPTIONS)),
    )


def _kind(scheme: str) -> Kind:
    try:
        return Kind(scheme.replace("rediss", "redis", 1))
    except ValueError:
        known = ", ".join(f"{kind.value}://" for kind in Kind)
        raise ValueError(
            f"{scheme}:// is no store; known are {known}, each with rediss for TLS"
        ) from None


def _endpoint(text: str, default_port: int) -> Endpoint:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise ValueError("a server has no host; write host:port")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= _PORT_MAX:
        raise ValueError(f"the port of {host} is no number from 1 to {_PORT_MAX}")
    return Endpoint(host, int(port))


def read_login(user: str, password: str) -> Login | None:
    """Percent signs are decoded; without a name it is the server's default user."""
    if not user and not password:
        return None
    return Login(unquote(user) or "default", unquote(password))


def _path(path: str, kind: Kind) -> tuple[str, int]:
    """The primary's name, and the number of the database."""
    words = [unquote(word) for word in path.strip("/").split("/") if word]
    name = words.pop(0) if kind is Kind.SENTINEL and words else ""
    if kind is Kind.SENTINEL and not name:
        raise ValueError("Sentinel needs the primary's name: redis+sentinel://host:port/name")
    number = words.pop(0) if words else "0"
    if words or not number.isascii() or not number.isdigit():
        raise ValueError(
            "behind the host stands the number of a database, such as /0, and nothing more"
        )
    if kind is Kind.CLUSTER and int(number):
        raise ValueError("a cluster has one database only, 0")
    return name, int(number)


def _options(query: str, kind: Kind, *, is_tls: bool) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not is_tls and options.keys() & set(TLS_OPTIONS):
        raise ValueError("files of TLS are given, but not TLS: the scheme begins with rediss")
    allowed = {*TLS_OPTIONS, *(_SENTINEL_OPTIONS if kind is Kind.SENTINEL else ())}
    if unknown := sorted(options.keys() - allowed):
        raise ValueError(
            f"{', '.join(unknown)}: no such option; known are {', '.join(sorted(allowed))}"
        )
    return options


def read_tls(options: dict[str, str]) -> Tls:
    """The files of TLS among the options. Raises ``ValueError`` for a key without a certificate."""
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("ssl_keyfile without ssl_certfile: a key belongs to a certificate")
    return Tls(*(options.get(option) for option in TLS_OPTIONS))

"""How a connection to a store's server is made: the name asked anew each time, and TLS where the address says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.runtime.process.client_tls import check_files, client_context
from schemas.runtime.valkey.address import Endpoint, Login, StoreAddress, Tls, read_address

CONNECT_DEADLINE_S: Final = 3.0
REPLY_DEADLINE_S: Final = 5.0
BACKOFF_MAX_S: Final = 1.0
_BACKOFF_FIRST_S: Final = 0.05
_RESP2: Final = 2


def pause_s(failures: int, chance: float) -> float:
    """How long to wait after the n-th failure in a row, from 1: longer each time, up to a second.

    ``chance``, 0 to 1, spreads those who lost the same server at the same time over half of it.
    """
    longest_s = min(_BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16), BACKOFF_MAX_S)
    return longest_s * (1.0 - chance / 2)


def check_address(url: str) -> None:
    """Raises ``ValueError`` with a sentence for whoever wrote the setting: no address, or files that are none."""
    check_files(read_address(url).tls)


async def connect(
    factory: Callable[[], asyncio.Protocol], endpoint: Endpoint, tls: Tls | None
) -> None:
    """A connection that is made, and handed to the protocol. Raises ``OSError``."""
    context = None if tls is None else client_context(tls)
    loop = asyncio.get_running_loop()
    await loop.create_connection(factory, endpoint.host, endpoint.port, ssl=context)


def redis_py_options(address: StoreAddress) -> dict[str, Any]:
    """What redis-py needs to be told for the same server: nothing is tried again, and nothing waits for ever."""
    options: dict[str, Any] = {
        "protocol": _RESP2,
        "socket_connect_timeout": CONNECT_DEADLINE_S,
        "socket_timeout": REPLY_DEADLINE_S,
        "retry": Retry(NoBackoff(), 0),
        **_login_options(address.login),
    }
    return options | _tls_options(address.tls)


def sentinel_options(address: StoreAddress) -> dict[str, Any]:
    """The same for the Sentinels, which know users of their own."""
    mine = {name: value for name, value in redis_py_options(address).items() if name not in _LOGIN}
    return mine | _login_options(address.sentinel_login)


_LOGIN: Final = ("username", "password")


def _login_options(login: Login | None) -> dict[str, Any]:
    return {} if login is None else dict(zip(_LOGIN, (login.user, login.password), strict=True))


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    return {
        "ssl": True,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": tls.authorities,
        "ssl_certfile": tls.certificate,
        "ssl_keyfile": tls.key,
    }

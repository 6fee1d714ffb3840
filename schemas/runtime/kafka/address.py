"""Where the brokers are, as one setting says it. Pure.

``host:port,host:port``, or ``kafka://[user:password@]host:port,host:port``; ``kafkas://`` over TLS. The port is 9092 where
none is named. Behind a question mark: ``sasl`` with ``SCRAM-SHA-512`` (the default with a user), ``SCRAM-SHA-256`` or
``PLAIN``, and the files of TLS as for stores: ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``. Whoever answers over
TLS is always verified: there is no option against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from schemas.runtime.valkey.address import TLS_OPTIONS, Endpoint, Login, Tls, read_login, read_tls

__all__ = ["KafkaAddress", "read_kafka_address"]

_PORT: Final = 9092
_PORT_MAX: Final = 65_535
_SCHEMES: Final = ("kafka", "kafkas")
_MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """The brokers, and what it takes to be let in."""

    servers: tuple[Endpoint, ...]
    login: Login | None = None
    mechanism: str = ""
    """Of SASL; empty without a login."""
    tls: Tls | None = None

    @property
    def protocol(self) -> str:
        """What Kafka calls it: ``security.protocol``."""
        transport = "PLAINTEXT" if self.tls is None else "SSL"
        return transport if self.login is None else f"SASL_{transport}"

    @property
    def plain(self) -> str:
        """The servers alone, without what is secret: ``host:port,host:port``."""
        return ",".join(map(str, self.servers))


def read_kafka_address(text: str) -> KafkaAddress:
    """The address in a setting. Raises ``ValueError`` with a sentence for whoever wrote it, without secrets."""
    if "://" not in text:
        return KafkaAddress(_servers(text))
    parts = urlsplit(text)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{parts.scheme}:// is no broker; write kafka://, or kafkas:// for TLS")
    is_tls = parts.scheme == "kafkas"
    if parts.path.strip("/"):
        raise ValueError("behind the brokers stands nothing but options: ?sasl=SCRAM-SHA-512")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    login = read_login(*userinfo.partition(":")[::2])
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    allowed = {*(TLS_OPTIONS if is_tls else ()), *(("sasl",) if login else ())}
    if unknown := sorted(options.keys() - allowed):
        raise ValueError(
            f"{', '.join(unknown)}: no such option; files of TLS go with kafkas://, sasl with a user"
        )
    mechanism = options.get("sasl", _MECHANISMS[0]) if login else ""
    if login and mechanism not in _MECHANISMS:
        raise ValueError(f"sasl is none of {', '.join(_MECHANISMS)}")
    return KafkaAddress(_servers(hosts), login, mechanism, read_tls(options) if is_tls else None)


def _servers(text: str) -> tuple[Endpoint, ...]:
    return tuple(_server(one.strip()) for one in text.split(","))


def _server(text: str) -> Endpoint:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else ("", "", "")
    if not colon:
        host, port = text, str(_PORT)
    if not host or "/" in host or "@" in host:
        raise ValueError("a broker is host:port, and several have commas between them")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= _PORT_MAX:
        raise ValueError(f"the port of a broker is no number from 1 to {_PORT_MAX}")
    return Endpoint(host, int(port))

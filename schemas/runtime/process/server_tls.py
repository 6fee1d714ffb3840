"""TLS of a port of ours whose clients have certificates too: nobody else gets past the handshake.

The certificate and its key may be replaced in place: what is in the files is used from the next second on.
Another authority of the clients needs a restart.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog

__all__ = ["HANDSHAKE_WITHIN_S", "ServerFiles", "ServerTls"]

_LOG = EventLog(__name__)
HANDSHAKE_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """Where the certificate of a port is, its key, and the authorities of its clients; all PEM."""

    certificate: Path
    key: Path
    clients: Path

    def context(self) -> ssl.SSLContext:
        """What the port speaks: TLS 1.3, or 1.2 with who knows no better. Raises ``OSError`` (``ssl.SSLError`` is one)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session would not look at the certificate again.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        context.load_cert_chain(self.certificate, self.key)
        context.load_verify_locations(self.clients)
        return context

    def state(self) -> tuple[tuple[int, int, int], ...]:
        """What changes with the certificate's files. Raises ``OSError``."""
        stats = [path.stat() for path in (self.certificate, self.key)]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)

    def expires_at_s(self) -> float:
        """Unix seconds after which no client takes the certificate. Raises ``OSError`` or ``ValueError``."""
        # Imported here, because it is large and only who has a certificate needs it.
        from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

        return load_pem_x509_certificate(
            self.certificate.read_bytes()
        ).not_valid_after_utc.timestamp()


@dataclass(slots=True)
class ServerTls:
    """The files in use; ``on_expiry`` is told when the certificate ends, and again after each change."""

    files: ServerFiles
    on_expiry: Callable[[float], None]
    context: ssl.SSLContext = field(init=False)
    _state: tuple[tuple[int, int, int], ...] = field(init=False)

    def __post_init__(self) -> None:
        self._state = self.files.state()
        self.context = self.files.context()
        self.on_expiry(self.files.expires_at_s())

    def refresh(self) -> None:
        """Use what is in the files now; what cannot be used is told once, and the former stays in use."""
        try:
            if (state := self.files.state()) == self._state:
                return
            self._state = state
            self.files.context()  # A key that belongs to another certificate must not get into the one in use.
            self.context.load_cert_chain(self.files.certificate, self.files.key)
            self.on_expiry(self.files.expires_at_s())
        except (OSError, ValueError) as error:
            path = str(self.files.certificate)
            _LOG.event(LogEvent.CERTIFICATE_NOT_LOADED, path=path, error=error)

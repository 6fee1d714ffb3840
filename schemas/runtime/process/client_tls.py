"""TLS to a broker or a store: whoever answers is verified, by certificate and by name."""

from __future__ import annotations

import ssl

from schemas.runtime.valkey.address import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """Verifies the server's certificate and its name; reads the files anew, because they are renewed.

    Raises ``OSError``, of which ``ssl.SSLError`` is one, for files that are none.
    """
    context = ssl.create_default_context(cafile=tls.authorities)
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context


def check_files(tls: Tls | None) -> None:
    """Raises ``ValueError`` with a sentence for whoever named files that are none."""
    if tls is not None:
        try:
            client_context(tls)
        except OSError as error:
            raise ValueError(f"a file of TLS cannot be used: {error}") from error

"""Tells by its exit code whether the process in this container is ready: the image's health check.

`python -m deploy.docker.ready URL...`. It starts anew every few seconds, so it imports nothing but
the standard library, and it asks the addresses themselves, whatever proxy the environment names.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from urllib.parse import urlsplit

ANSWER_DEADLINE_S = 2.0


def is_ready(url: str) -> bool:
    """True if GET answers 200 in time; False also when nobody listens."""
    address = urlsplit(url)
    try:
        connection = _connection(address.scheme, address.netloc)
    except OSError:
        return False
    try:
        connection.request("GET", address.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _connection(scheme: str, where: str) -> http.client.HTTPConnection:
    """A connection; over TLS, with the certificate that the command line uses in this container."""
    if scheme == "http":
        return http.client.HTTPConnection(where, timeout=ANSWER_DEADLINE_S)
    context = ssl.create_default_context(cafile=os.environ.get("TALLYGATE_ADMIN_CA"))
    if certificate := os.environ.get("TALLYGATE_ADMIN_CERT"):
        context.load_cert_chain(certificate, os.environ.get("TALLYGATE_ADMIN_CERT_KEY"))
    return http.client.HTTPSConnection(where, timeout=ANSWER_DEADLINE_S, context=context)


def main() -> None:
    """Exit with 0 if one of the addresses is ready, else with 1."""
    sys.exit(0 if any(map(is_ready, sys.argv[1:])) else 1)


if __name__ == "__main__":
    main()

"""Tells by its exit code whether the process in this container is ready: the image's health check.

`python -m deploy.docker.ready URL...`. It starts anew every few seconds, so it imports nothing but
the standard library, and it asks the addresses themselves, whatever proxy the environment names.
"""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

ANSWER_DEADLINE_S = 2.0


def is_ready(url: str) -> bool:
    """True if GET answers 200 in time; False also when nobody listens."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=ANSWER_DEADLINE_S)
    try:
        connection.request("GET", address.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> None:
    """Exit with 0 if one of the addresses is ready, else with 1."""
    sys.exit(0 if any(map(is_ready, sys.argv[1:])) else 1)


if __name__ == "__main__":
    main()

"""When a stack counts as started: once its ingress has heard that the ledger decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from deploy.embedded.probes import is_ledger_open
from tests.support.harness.ledger_server import free_port

_LOOKED: dict[str, Any] = {"workers": {}, "bounds": {"broker_disk": "low"}}


@pytest.fixture
def told() -> Iterator[tuple[int, dict[str, Any]]]:
    """A status page, which is 503 while anything is amiss, and what it says."""
    said: dict[str, Any] = {}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port, said
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("document", "is_open"),
    [
        (_LOOKED, True),
        ({"bounds": {}}, False),
        ({**_LOOKED, "bounds": {"ledger": "restarted, being rebuilt"}}, False),
        ({**_LOOKED, "bounds": {"ledger_shards": "restarted, being rebuilt: 1"}}, False),
    ],
    ids=["whatever else is amiss", "not looked yet", "closed", "one shard closed"],
)
async def test_the_ledger_is_open_once_ingress_says_so(
    told: tuple[int, dict[str, Any]], document: dict[str, Any], *, is_open: bool
) -> None:
    """Other bounds are nobody's business here."""
    port, said = told
    said.update(document)

    assert await is_ledger_open(port) is is_open


async def test_nobody_who_is_away_has_an_open_ledger() -> None:
    """It is asked again."""
    assert not await is_ledger_open(free_port())

"""The whole gateway on another store server: TLS to and between the stores, a cluster, a user for each process.

The embedded store has no TLS. Where no other is installed nothing of this is shown, and the test says so.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import redis

from tests.support.harness.running_stack import RunningStack, running_stack

SERVER = shutil.which("redis-server") or ""
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not SERVER,
        reason="NOT SHOWN HERE: stores over TLS. There is no redis-server on PATH "
        "(on Debian: apt-get install redis-server), and the embedded store has no TLS",
    ),
]
USAGE_DEADLINE_S = 20
READY_WITHIN_S = 30


def _ask(stack: RunningStack) -> httpx.Response:
    body = {"model": "echo-1", "messages": [{"role": "user", "content": "one two three"}]}
    headers = {"Authorization": f"Bearer {stack.first_key}"}
    url = f"{stack.api_url}/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)


def _until_ready(stack: RunningStack) -> None:
    """Every process has reported itself, and the door has heard that every shard is open."""
    url = f"{stack.api_url.removesuffix('/v1')}/v1/status/readyz"
    end_s = time.monotonic() + READY_WITHIN_S
    while (told := httpx.get(url, trust_env=False).json())["status"] != "ok":
        assert time.monotonic() < end_s, told
        time.sleep(0.2)


def test_requests_are_served_and_booked_over_tls_by_users_of_their_own(tmp_path: Path) -> None:
    """Nobody comes in without a certificate, and the books agree."""
    options = ("--store-server", SERVER, "--store-tls", "--store-users", "--ledger-primaries", "3")
    with running_stack(tmp_path / "state", options=options) as stack:
        _until_ready(stack)
        assert [_ask(stack).status_code for _ in range(20)] == [200] * 20
        verified = httpx.get(
            f"{stack.admin_url}/ledger/verify",
            params={"deadline_s": USAGE_DEADLINE_S},
            timeout=60,
            trust_env=False,
        )
        assert verified.raise_for_status().json()["difference"] == 0

        assert urlsplit(stack.ledger_url).scheme == "rediss+cluster"
        with redis.Redis.from_url(stack.bus_url) as bus:
            users = {str(client["user"]) for client in bus.client_list()}
            assert {"ingress", "limiter_worker", "dispatcher", "accounting"} <= users
            assert bus.info("server")["redis_version"] in _version()
        authority = parse_qs(urlsplit(stack.bus_url).query)["ssl_ca_certs"][0]
        port = urlsplit(stack.bus_url).port
        with (
            redis.Redis(port=port or 0, ssl=True, ssl_ca_certs=authority) as stranger,
            pytest.raises((redis.ConnectionError, ssl.SSLError)),
        ):
            stranger.ping()
        assert stack.stop() == 0


def _version() -> str:
    return subprocess.run([SERVER, "--version"], capture_output=True, text=True, check=True).stdout

"""HAProxy on the loopback address in front of several ingresses, with the file that is documented for production."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from tests.support.harness.ledger_server import free_ports
from tests.support.harness.running_stack import REPOSITORY

SETTINGS: Final = REPOSITORY / "deploy/haproxy/haproxy.cfg"
_READY_WITHIN_S: Final = 20.0
_STOPS_WITHIN_S: Final = 5.0


@contextmanager
def running_balancer(api_urls: Sequence[str], folder: Path) -> Iterator[str]:
    """Its API, once it serves through one of the ingresses; gone when the block is left."""
    program = os.environ.get("HAPROXY") or shutil.which("haproxy")
    if program is None:
        raise SystemExit("haproxy is not here: apt-get install haproxy, or name it with HAPROXY")
    (port,) = free_ports(1)
    bind = f"127.0.0.1:{port}"
    places = {
        f"TALLYGATE_INGRESS_{number}": urlsplit(url).netloc for number, url in enumerate(api_urls)
    }
    with (folder / "haproxy.log").open("ab") as log:
        process = subprocess.Popen(
            [program, "-db", "-f", str(SETTINGS)],
            env={**os.environ, **places, "TALLYGATE_BIND": bind},
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_it_serves(f"http://{bind}/v1", process)
        yield f"http://{bind}/v1"
    finally:
        process.terminate()
        try:
            process.wait(_STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_serves(url: str, process: subprocess.Popen[bytes]) -> None:
    give_up_s = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < give_up_s and process.poll() is None:
        try:
            if httpx.get(f"{url}/status/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError("no ingress was served through haproxy: read haproxy.log")

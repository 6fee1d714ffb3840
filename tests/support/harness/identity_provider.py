"""An identity provider that nobody here wrote, as a process of its own, and people who log in at it.

Invariant: the process is gone when the `with` block is left.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from deploy.bench.running_backend import end_process

CLIENT_ID = "tallygate"
_REDIRECT = "https://app.example.com/back"
_START_S = 20.0
_STOP_S = 5.0


@dataclass(frozen=True)
class RunningProvider:
    """A provider that answers."""

    issuer: str
    process: subprocess.Popen[bytes]

    def token(self, subject: str, client_id: str = CLIENT_ID) -> str:
        """The ID token of a user who logs in with a browser at a client: the code flow of OpenID Connect."""
        with httpx.Client(base_url=self.issuer, trust_env=False, timeout=10) as browser:
            asked = {
                "client_id": client_id,
                "redirect_uri": _REDIRECT,
                "response_type": "code",
                "scope": "openid email",
            }
            back = browser.post("/oauth2/authorize", params=asked, data={"sub": subject})
            (code,) = parse_qs(urlsplit(back.headers["location"]).query)["code"]
            grant = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": _REDIRECT,
            }
            answer = browser.post("/oauth2/token", data=grant, auth=(client_id, "any"))
            token: str = answer.raise_for_status().json()["id_token"]
            return token

    def key_set(self) -> dict[str, Any]:
        """What it publishes."""
        answer = httpx.get(f"{self.issuer}/jwks", trust_env=False)
        keys: dict[str, Any] = answer.raise_for_status().json()
        return keys

    def pause(self) -> None:
        """From now on it hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running_provider(
    log: Path, users: Sequence[dict[str, Any]], port: int | None = None, age_s: int = 3_600
) -> Iterator[RunningProvider]:
    """A provider with these users, whose tokens live so long; ready when this yields. It makes a new key at each start."""
    at = port or free_port()
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(at)]
    command += ["--token-max-age", str(age_s)]
    command += [part for user in users for part in ("--user-claims", json.dumps(user))]
    with log.open("ab") as story:
        process = subprocess.Popen(command, stdout=story, stderr=story)
    provider = RunningProvider(f"http://127.0.0.1:{at}", process)
    try:
        _wait(provider, log)
        yield provider
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
        end_process(process, _STOP_S)


def _wait(provider: RunningProvider, log: Path) -> None:
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s:
        try:
            provider.key_set()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the provider does not answer: {log.read_text()[-1_000:]}")

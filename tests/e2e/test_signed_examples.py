"""The examples that sign do what they say, also when an answer is lost on its way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.support.harness.gateway_client import MODEL
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack

EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE_S = 45.0
pytestmark = pytest.mark.timeout(90, func_only=True)


class _Losing(BaseHTTPRequestHandler):
    """Carries requests on as they are; the answer to the first one is lost."""

    protocol_version = "HTTP/1.1"
    gateway: str
    signatures: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.signatures.append(self.headers["x-tallygate-signature"])
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        with httpx.Client(trust_env=False, timeout=30) as client:
            answer = client.post(f"{self.gateway}{self.path}", content=body, headers=headers)
        is_first = len(self.signatures) == 1
        content = b"lost" if is_first else answer.content
        self.send_response(502 if is_first else answer.status_code)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal is pytest's."""


@contextmanager
def _losing(stack: RunningStack) -> Iterator[tuple[str, list[str]]]:
    """A proxy that loses an answer: its address, and the signatures that it saw."""
    seen: list[str] = []
    gateway = stack.api_url.removesuffix("/v1")
    handler = type("Losing", (_Losing,), {"gateway": gateway, "signatures": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture(scope="module")
def made(admin: httpx.Client) -> Mapping[str, Any]:
    """A signed key as the admin API answers it."""
    admin.put("/orgs/signed-examples", json={}).raise_for_status()
    body = {"org": "signed-examples", "signed": True}
    answer: dict[str, Any] = admin.post("/keys", json=body).raise_for_status().json()
    return answer


def _run(name: str, base_url: str, made: Mapping[str, Any]) -> str:
    """What the example prints; it ends well or the test does not."""
    own = {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": made["key"],
        "TALLYGATE_SIGNING_SECRET": made["signing_secret"],
        "TALLYGATE_MODEL": MODEL,
    }
    ended = subprocess.run(
        [sys.executable, name] if name.endswith(".py") else ["sh", name],
        cwd=EXAMPLES,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return ended.stdout


def test_the_sdk_signs_every_try(stack: RunningStack, made: Mapping[str, Any]) -> None:
    """A try whose answer was lost is signed anew by the hook, and streams are signed as well."""
    with _losing(stack) as (base_url, signatures):
        first, again, streamed = _run("signed_sdk.py", base_url, made).splitlines()

    assert "signed by the SDK" in first
    assert again == first
    assert streamed.startswith("streamed and signed")
    assert len(signatures) == len(set(signatures)) == 4


def test_plain_python(stack: RunningStack, made: Mapping[str, Any]) -> None:
    """Served once; the same again is refused."""
    printed = _run("signed_request.py", stack.api_url, made).splitlines()

    assert printed[0].startswith("first: 200 ")
    assert printed[1] == "the same again: 401 signature_replayed"
    assert printed[2].startswith("models: 200 ")


def test_a_shell(stack: RunningStack, made: Mapping[str, Any], oracle: Oracle) -> None:
    """Curl and openssl agree with us on every byte."""
    before = len(oracle.calls())

    assert "signed by a shell" in _run("signed_request.sh", stack.api_url, made)
    assert len(oracle.calls()) == before + 1

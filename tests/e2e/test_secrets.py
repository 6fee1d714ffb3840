"""No secret stands where it has no business: in logs, in what Kafka and the stores keep, on any page.

Every secret of the stack is a canary that is looked for byte by byte once requests, errors, a quoting backend and a killed store have
given each process a reason to speak of it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from deploy.embedded.config_keys import config_settings
from deploy.embedded.roles import ROLES
from deploy.embedded.state import Memory
from deploy.embedded.store_users import password_of
from tests.support.harness.running_stack import RunningStack, descendants, running_stack
from tests.support.signing import signed

pytestmark = pytest.mark.timeout(300)

OF_VARIABLE, OF_FILE = "canary-of-a-variable-4711", "canary-of-a-file-4711"
WRONG_KEY = "tallygate_live_canary4711canary4711canary4711ab"
SEEN = "org-that-must-be-found"
"""No secret: what looks for secrets has to find this in the same bytes."""


class Quoting(BaseHTTPRequestHandler):
    """A backend that quotes the key it refuses, as some do."""

    def do_GET(self) -> None:
        self._answer(200, {"object": "list", "data": [{"id": "quoting-1", "object": "model"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        said = f"nobody here knows {self.headers['authorization'].removeprefix('Bearer ')} at all"
        self._answer(400, {"error": {"message": said, "type": "invalid_request_error"}})

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal is pytest's."""

    def _answer(self, status: int, body: Mapping[str, Any]) -> None:
        told = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)


@contextmanager
def quoting_backend() -> Iterator[str]:
    """Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quoting)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def use_it(stack: RunningStack, key: str) -> list[str]:
    """Good requests and bad ones of every kind; all that was answered."""
    body = {"model": "quoting-1", "messages": [{"role": "user", "content": "hello"}]}
    told: list[str] = []
    with httpx.Client(base_url=stack.api_url, timeout=30, trust_env=False) as client:
        for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": WRONG_KEY}):
            sent = (body, {**body, "messages": 7}, {**body, "model": "none"})
            answers = [client.post("/chat/completions", json=one, headers=headers) for one in sent]
            told += [answer.text for answer in answers]
            told.append(client.post("/chat/completions", content=b"{", headers=headers).text)
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        told.append(admin.put("/backends/bad", json={"url": "http://u:sk-in-url@h/v1"}).text)
        told += [admin.get(path).text for path in ("/keys", "/backends", "/status", "/audit")]
    return told


def sign_it(stack: RunningStack, made: Mapping[str, str], text: str) -> str:
    """A signed request, and one of which a byte was changed; what was answered."""
    body = json.dumps({"model": "quoting-1", "messages": [{"role": "user", "content": text}]})
    sent = body.replace("wrong", "wr0ng").encode()
    path = "/v1/chat/completions"
    headers = signed(made["signing_secret"], "POST", path, body.encode(), int(time.time()))
    own = {"content-type": "application/json", "x-api-key": made["key"], **headers}
    url = f"{stack.api_url}/chat/completions"
    answer = httpx.post(url, content=sent, headers=own, timeout=30, trust_env=False)
    assert answer.json()["error"]["code"] == (
        "signature_invalid" if text == "wrong" else "upstream_rejected"
    )
    return answer.text


def pages(stack: RunningStack) -> list[str]:
    """Status pages and metrics of every process."""
    found = []
    for pid in descendants(stack.process.pid):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        for line in environment:
            name, _, port = line.decode(errors="replace").partition("=")
            if name in ("TALLYGATE_HTTP_PORT", "TALLYGATE_PORT", "TALLYGATE_ADMIN_PORT"):
                for path in (
                    "/metrics",
                    "/readyz",
                    "/livez",
                    "/v1/status/readyz",
                    "/v1/status/healthz",
                ):
                    url = f"http://127.0.0.1:{port}{path}"
                    found.append(httpx.get(url, timeout=10, trust_env=False).text)
    return found


def kill_ledger(stack: RunningStack) -> None:
    """So that every process tells that it lost it, and logs in again."""
    (pid,) = (
        pid
        for pid in descendants(stack.process.pid)
        if f":{httpx.URL(stack.ledger_url.replace('redis', 'http')).port}".encode()
        in Path(f"/proc/{pid}/cmdline").read_bytes()
        or b"/ledger" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(pid, signal.SIGKILL)


def signing_key(memory: dict[str, Any], role: str) -> str:
    """The private key of a process that writes into the configuration."""
    return config_settings(Memory(**memory), role)["TALLYGATE_CONFIG_SIGNING_KEY"]


def holding(folder: Path, canary: str) -> list[str]:
    """The files below a folder that hold the text."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    wanted = canary.encode()
    return [str(path.relative_to(folder)) for path in files if wanted in path.read_bytes()]


def test_no_secret_is_in_a_log_a_topic_a_store_or_on_a_page(tmp_path: Path) -> None:
    """Peppers, passwords of stores, keys of backends and of clients; the one file that is to hold the stack's own is closed to others."""
    state, file = tmp_path / "state", tmp_path / "key"
    file.write_text(f"{OF_FILE}\n", encoding="utf-8")
    told: list[str] = []
    with quoting_backend() as url:
        environment = {
            "BACKEND_A_API_KEY": OF_VARIABLE,
            "BACKEND_B_API_KEY_FILE": str(file),
            "TALLYGATE_LOG_LEVEL": "DEBUG",
            "TALLYGATE_LOG_UPSTREAM_TEXTS": "1",
        }
        options = ["--store-users", "--backend", f"a={url}", "--backend", f"b={url}"]
        with running_stack(state, environment=environment, options=options) as stack:
            with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
                webhooks = {"webhooks": {"url": "https://127.0.0.1:9/hook"}}
                admin.put(f"/orgs/{SEEN}", json=webhooks).raise_for_status()
                hooked = admin.post("/webhooks/secrets", json={"org": SEEN}).json()
                made = admin.post("/keys", json={"org": SEEN, "name": "n"}).raise_for_status()
                signed_key = admin.post("/keys", json={"org": SEEN, "signed": True}).json()
            key = made.json()["key"]
            told += [sign_it(stack, signed_key, text) for text in ("right", "wrong")]
            for each in (key, stack.first_key):
                told += use_it(stack, each)
            kill_ledger(stack)
            told += use_it(stack, key)
            time.sleep(3)
            told += use_it(stack, key) + pages(stack)
            assert stack.stop() == 0
    memory = json.loads((state / "stack.json").read_text(encoding="utf-8"))
    passwords = [password_of(memory["store_secret"], role) for role in ROLES]
    secrets = [
        *(memory["pepper"], memory["store_secret"], *passwords, memory["config_secret"]),
        *(memory["webhook_pepper"], hooked["secrets"][0]["secret"]),
        *(memory["signing_pepper"], signed_key["key"], signed_key["signing_secret"]),
        *(signing_key(memory, role) for role in ("admin", "accounting")),
        *(OF_VARIABLE, OF_FILE, key, memory["first_key"], WRONG_KEY, "sk-in-url"),
    ]

    assert holding(state / "kafka", SEEN), "records are found by their bytes"
    assert holding(state / "logs", "backend_said"), "words of a backend may be logged here"
    for secret in secrets:
        assert [name for name in holding(state, secret) if name != "stack.json"] == []
        assert [text for text in told if secret in text] == []
        assert secret not in state.with_suffix(".log").read_text(encoding="utf-8")
    assert (state / "stack.json").stat().st_mode & 0o077 == 0

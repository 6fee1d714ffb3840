"""Each row of the table of errors is caused once from outside, and what the processes count is what the client has counted.

The client's count is the oracle: operation by the path that it asked, status and code as it read them. What cannot be caused in
one run on this stack has its reason in ``NOT_HERE``; that whatever code a worker sends is counted is shown for all of them in
``tests/unit/ingress/test_answers_counted.py``.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from schemas.errors import ErrorCode
from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.grants import UNLIMITED
from tests.support.harness.running_stack import RunningStack
from tests.support.samples import samples
from tests.support.signing import signed

pytestmark = pytest.mark.timeout(120, func_only=True)
_CHAT: Final = "/v1/chat/completions"
_OPERATIONS: Final = {_CHAT: "chat.completions", "/v1/models": "models"}
_SETTLED_S: Final = 0.2

Answers = Counter[tuple[str, str, str]]
"""Operation, status and code to how many answers."""

NOT_HERE: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.INVALID_TOKEN: "needs an identity provider: tests/e2e/test_callers.py",
    ErrorCode.CALLER_NOT_ALLOWED: "needs an identity provider: tests/e2e/test_callers.py",
    ErrorCode.CERTIFICATE_UNKNOWN: "needs an admin port with certificates: tests/e2e/test_mutual_tls.py",
    ErrorCode.ROLE_NOT_ALLOWED: "needs an admin port with certificates: tests/e2e/test_mutual_tls.py",
    ErrorCode.BODY_TOO_SLOW: "takes half a minute: tests/unit/ingress/test_gatekeeper.py",
    ErrorCode.HEADERS_TOO_SLOW: "takes ten seconds: tests/unit/ingress/test_front_door.py",
    ErrorCode.REQUEST_CANCELLED: "whoever cancels a request has left, or asks for its job: tests/e2e/test_jobs.py",
    ErrorCode.RESULT_LOST: "needs a large result that the log lost: tests/integration/test_kept_results.py",
    ErrorCode.BODY_LOST: "needs a large body that bus and log lost: tests/integration/test_large_bodies.py",
    ErrorCode.SERVICE_UNAVAILABLE: "needs a store or broker that is away: tests/e2e/test_stopping.py",
    ErrorCode.OVERLOADED: "needs more load than a test may make here: tests/e2e/test_bulkheads.py",
    ErrorCode.INTERNAL_ERROR: "needs a defect of ours",
}


class _Client:
    """Asks, and counts what it is told."""

    def __init__(self, stack: RunningStack, admin: httpx.Client) -> None:
        self.root = stack.api_url.removesuffix("/v1")
        self.http = httpx.Client(base_url=self.root, timeout=30, trust_env=False)
        self.admin = admin
        self.told: Answers = Counter()
        self._lock = threading.Lock()

    def count(self, operation: str, status: int, code: str) -> None:
        with self._lock:
            self.told[operation, str(status), code] += 1

    def key(self, limits: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """A new key of a new organization with the limits."""
        org = f"counted-{uuid.uuid4().hex[:8]}"
        body = {"limits": {**UNLIMITED, **(limits or {})}}
        self.admin.put(f"/orgs/{org}", json=body).raise_for_status()
        asked = {"org": org, "name": "counted", "limits": UNLIMITED, **fields}
        made: dict[str, Any] = self.admin.post("/keys", json=asked).raise_for_status().json()
        return made

    def chat(
        self,
        key: str | None = None,
        content: str = "hello",
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> None:
        """One chat completion."""
        own = {"authorization": f"Bearer {key or self.key()['key']}", **(headers or {})}
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}
        self.send("POST", _CHAT, json.dumps(body).encode(), own)

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        """One request, counted by what it is told."""
        sent = {"content-type": "application/json", **headers}
        answer = self.http.request(method, path, content=body, headers=sent)
        self.count(_OPERATIONS.get(path, "other"), answer.status_code, code_in(answer.text))

    def raw(self, head: str, operation: str) -> None:
        """Bytes of our own, because no client library sends them."""
        to = urlsplit(self.root)
        with socket.create_connection((to.hostname, to.port), timeout=10) as connection:
            connection.sendall(head.encode())
            answer = b""
            while part := connection.recv(65_536):
                answer += part
                if code_in(answer.decode()):
                    break
        self.count(operation, int(answer.split(b" ")[1]), code_in(answer.decode()))

    def administer(self, method: str, path: str, **more: Any) -> None:
        """One request of an administrator."""
        answer = self.admin.request(method, path, **more)
        self.count("admin", answer.status_code, code_in(answer.text))


def code_in(text: str) -> str:
    """The gateway's code in whatever was answered: JSON, problem+json, or the last event of a stream."""
    for part in (text, *reversed(text.split("data: "))):
        start = part.find("{")
        try:
            told, _ = json.JSONDecoder().raw_decode(part[start:]) if start >= 0 else ({}, 0)
        except ValueError:
            continue
        error = told.get("error")
        inner = error if isinstance(error, dict) else {}
        code = inner.get("gateway_code") or inner.get("code") or told.get("code")
        if code:
            return str(code)
    return ""


def _signed(client: _Client, *, secret: str | None = None, ago_s: int = 0, times: int = 1) -> None:
    made = client.key(signed=True)
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}).encode()
    at_s = int(time.time()) - ago_s
    headers = signed(secret or made["signing_secret"], "POST", _CHAT, body, at_s)
    for _ in range(times):
        client.send("POST", _CHAT, body, {"x-api-key": made["key"], **headers})


def _reused_key(client: _Client) -> None:
    key, once = client.key()["key"], {"idempotency-key": uuid.uuid4().hex}
    client.chat(key, "first", once)
    client.chat(key, "second", once)


def _in_flight(client: _Client) -> None:
    key, once = client.key()["key"], {"idempotency-key": uuid.uuid4().hex}
    content = steer(delay_ms=1_200, output_tokens=2)
    first = threading.Thread(target=client.chat, args=(key, content, once))
    first.start()
    time.sleep(0.4)
    client.chat(key, content, {**once, "prefer": "wait=0"})
    first.join()


def _unpriced(client: _Client) -> None:
    route = client.admin.get(f"/models/{MODEL}").raise_for_status().json()
    backends = route.get("backends") or route["entity"]["backends"]
    client.admin.put("/models/counted-free", json={"backends": backends}).raise_for_status()
    budget = {"budgets": [{"usd": "1", "period": "total"}]}
    client.chat(client.key(budget)["key"], model="counted-free")
    client.admin.delete("/models/counted-free").raise_for_status()


def _no_backend(client: _Client) -> None:
    gone = {"url": "http://127.0.0.1:9/v1"}
    client.admin.put("/backends/counted-gone", json=gone).raise_for_status()
    model = {"backends": [{"backend": "counted-gone"}], "default_max_output_tokens": 16}
    client.admin.put("/models/counted-gone", json=model).raise_for_status()
    client.chat(model="counted-gone")
    client.admin.delete("/models/counted-gone").raise_for_status()
    client.admin.delete("/backends/counted-gone").raise_for_status()


def _limited(client: _Client, limits: dict[str, Any], times: int) -> None:
    key = client.key({**limits, "on_limit": "reject"})["key"]
    for _ in range(times):
        client.chat(key, max_tokens=8)


def _oversized(client: _Client) -> None:
    head = f"POST {_CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    key = client.key()["key"]
    client.raw(f"{head}X-API-Key: {key}\r\nContent-Length: 9999999999\r\n\r\n", "chat.completions")


_TOTAL: Final = {"period": "total"}
HERE: Final[Mapping[ErrorCode, Callable[[_Client], None]]] = {
    ErrorCode.INVALID_API_KEY: lambda c: c.chat("nobody's"),
    ErrorCode.KEY_NOT_ALLOWED: lambda c: c.chat(c.key(scopes=["models:read"])["key"]),
    ErrorCode.SIGNATURE_MISSING: lambda c: c.chat(c.key(signed=True)["key"]),
    ErrorCode.SIGNATURE_INVALID: lambda c: _signed(c, secret="tg_sign_guessed"),
    ErrorCode.SIGNATURE_EXPIRED: lambda c: _signed(c, ago_s=400),
    ErrorCode.SIGNATURE_REPLAYED: lambda c: _signed(c, times=2),
    ErrorCode.INVALID_JSON: lambda c: c.send("POST", _CHAT, b"{", {"x-api-key": c.key()["key"]}),
    ErrorCode.INVALID_REQUEST: lambda c: c.chat(n=99),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: lambda c: c.chat(headers={"content-type": "text/plain"}),
    ErrorCode.BODY_TOO_LARGE: _oversized,
    ErrorCode.HEADERS_TOO_LARGE: lambda c: c.raw(
        f"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Long: {'x' * 20_000}\r\n\r\n", "door"
    ),
    ErrorCode.MODEL_NOT_FOUND: lambda c: c.chat(model="counted-none"),
    ErrorCode.MODEL_UNPRICED: _unpriced,
    ErrorCode.IDEMPOTENCY_KEY_REUSED: _reused_key,
    ErrorCode.IDEMPOTENCY_IN_FLIGHT: _in_flight,
    ErrorCode.NOT_FOUND: lambda c: c.send("GET", "/v1/counted-nothing", b"", {}),
    ErrorCode.METHOD_NOT_ALLOWED: lambda c: c.send("PUT", "/v1/models", b"", {}),
    ErrorCode.VERSION_CONFLICT: lambda c: c.administer(
        "PUT", f"/orgs/{c.key()['org']}", json={}, headers={"if-match": '"0"'}
    ),
    ErrorCode.REFERENCE_CONFLICT: lambda c: c.administer("DELETE", f"/orgs/{c.key()['org']}"),
    ErrorCode.RATE_LIMIT_EXCEEDED: lambda c: _limited(c, {"requests_per_s": 1, "burst": 1}, 4),
    ErrorCode.QUOTA_EXCEEDED: lambda c: _limited(
        c, {"quotas": [{"amount": 1, "unit": "requests", "period": "day"}]}, 2
    ),
    ErrorCode.BUDGET_EXCEEDED: lambda c: _limited(
        c, {"budgets": [{"usd": "0.000001", **_TOTAL}]}, 2
    ),
    ErrorCode.REQUEST_TOO_LARGE_FOR_LIMIT: lambda c: _limited(c, {"tokens_per_min": 2}, 1),
    ErrorCode.UPSTREAM_REJECTED: lambda c: c.chat(content='{"fake": {"misspelt": 1}}'),
    ErrorCode.UPSTREAM_RATE_LIMITED: lambda c: c.chat(content=steer(mode="429")),
    ErrorCode.UPSTREAM_ERROR: lambda c: c.chat(content=steer(mode="500")),
    ErrorCode.UPSTREAM_INTERRUPTED: lambda c: c.chat(content=steer(mode="reset"), stream=True),
    ErrorCode.NO_BACKEND: _no_backend,
    ErrorCode.DEADLINE_EXCEEDED: lambda c: c.chat(
        content=steer(mode="hang"), headers={"x-request-timeout": "1"}
    ),
}
"""What causes each; some of it answers other requests on the way, which count as well."""


def _counted(*urls: str) -> Answers:
    """All answers that the processes have counted, but for status pages and successes of administration."""
    found: Answers = Counter()
    for url in urls:
        page = httpx.get(f"{url}/metrics", timeout=10, trust_env=False).raise_for_status().text
        for (name, labels), count in samples(page).items():
            by = dict(labels)
            if name == "tallygate_requests_total" and (
                by["code"] or by["operation"] not in {"status", "metrics", "admin"}
            ):
                found[by["operation"], by["status"], by["code"]] += int(count)
    return found


@pytest.fixture
def client(stack: RunningStack, admin: httpx.Client) -> Iterator[_Client]:
    made = _Client(stack, admin)
    yield made
    made.http.close()


def test_every_row_of_the_table_is_caused_here_or_says_why_not() -> None:
    """A new code has to choose."""
    assert set(HERE) | set(NOT_HERE) == set(ErrorCode)
    assert set(HERE) & set(NOT_HERE) == set()


def test_what_is_counted_is_what_clients_were_told(stack: RunningStack, client: _Client) -> None:
    """By operation, status and code, all rows together: none is missing, none counts twice, none under another name."""
    pages = client.root, f"http://{urlsplit(stack.admin_url).netloc}"
    before, missing = _counted(*pages), []
    for code, cause in HERE.items():
        cause(client)
        if not any(told == code for _, _, told in client.told):
            missing.append(code.value)
    time.sleep(_SETTLED_S)
    grown = _counted(*pages)
    grown.subtract(before)

    assert missing == [], client.told
    assert {key: n for key, n in grown.items() if n} == dict(client.told)

"""A client that counts what it is told: by operation, status and code."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from deploy.embedded.admin_tls import AdminCertificates
from schemas.admin_roles import Role
from tests.support.harness.gateway_client import MODEL
from tests.support.harness.grants import UNLIMITED
from tests.support.harness.identity_provider import RunningProvider
from tests.support.harness.running_stack import RunningStack

CHAT: Final = "/v1/chat/completions"
_READY: Final = "/v1/status/readyz"
_OPERATIONS: Final = {CHAT: "chat.completions", "/v1/models": "models"}
_WITHIN_S: Final = 60.0
_RAW_WITHIN_S: Final = 45.0

Answers = Counter[tuple[str, str, str]]
"""Operation, status and code to how many answers."""


@dataclass
class Client:
    """Asks, and counts what it is told."""

    stack: RunningStack
    admin: httpx.Client
    provider: RunningProvider
    certificates: AdminCertificates
    told: Answers = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def root(self) -> str:
        """Where the public port is."""
        return self.stack.api_url.removesuffix("/v1")

    def count(self, operation: str, status: int, code: str) -> None:
        """One answer."""
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
    ) -> httpx.Response:
        """One chat completion."""
        own = {"authorization": f"Bearer {key or self.key()['key']}", **(headers or {})}
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}
        return self.send("POST", CHAT, json.dumps(body).encode(), own)

    def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> httpx.Response:
        """One request, counted by what it is told."""
        sent = {"content-type": "application/json", **headers}
        url = self.root + path
        answer = httpx.request(
            method, url, content=body, headers=sent, timeout=_WITHIN_S, trust_env=False
        )
        operation = "jobs" if path.startswith("/v1/jobs/") else _OPERATIONS.get(path, "other")
        self.count(operation, answer.status_code, code_in(answer.text))
        return answer

    def raw(self, head: str, operation: str) -> None:
        """Bytes of our own, because no client library sends them."""
        to = urlsplit(self.root)
        address = to.hostname or "", to.port or 0
        with socket.create_connection(address, timeout=_RAW_WITHIN_S) as connection:
            connection.sendall(head.encode())
            answer = b""
            while part := connection.recv(65_536):
                answer += part
                if code_in(answer.decode()):
                    break
        self.count(operation, int(answer.split(b" ")[1]), code_in(answer.decode()))

    def administer(self, method: str, path: str, role: Role = Role.OWNER, **more: Any) -> None:
        """One request of an administrator."""
        context = self.certificates.client_context(role)
        url = self.stack.admin_url + path
        with httpx.Client(verify=context, trust_env=False, timeout=_WITHIN_S) as client:
            answer = client.request(method, url, **more)
        self.count("admin", answer.status_code, code_in(answer.text))

    def until_ready(self, wanted: int) -> None:
        """Wait until readiness has a status. Raises ``TimeoutError``."""
        give_up_s = time.monotonic() + _WITHIN_S
        while time.monotonic() < give_up_s:
            answer = httpx.get(self.root + _READY, timeout=_WITHIN_S, trust_env=False)
            if answer.status_code == wanted:
                return
            time.sleep(0.2)
        raise TimeoutError(f"readiness is not {wanted}: {answer.text}")


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

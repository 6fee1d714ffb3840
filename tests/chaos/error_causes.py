"""What causes each row of the table of errors, from outside, on a stack that runs."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.admin_roles import Role
from schemas.errors import ErrorCode
from schemas.topics import REQUESTS, RESULTS
from tests.chaos.counting_client import CHAT, Client
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.ledger_view import key_of
from tests.support.harness.running_stack import RunningStack, descendants
from tests.support.harness.standing_still import standing_still
from tests.support.signing import signed

NARROW_MODEL: Final = "counted-narrow"
"""Of a backend that takes one call at a time."""
_WITHIN_S: Final = 60.0
_REPORTED_S: Final = 2.5
"""After it a dispatcher has told of the calls under way."""


@contextmanager
def _hanging(stack: RunningStack, word: str) -> Iterator[None]:
    """A process of the stack whose command line has the word is there and does nothing."""
    (pid,) = [
        pid
        for pid in descendants(stack.process.pid)
        if word in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    ]
    with standing_still(pid):
        yield


def _cut(brokers: str, topic: str) -> None:
    """All records of a topic are gone."""
    reader = Consumer({"bootstrap.servers": brokers, "group.id": "counted"})
    partitions = reader.list_topics(topic, timeout=_WITHIN_S).topics[topic].partitions
    ends = [
        TopicPartition(topic, n, reader.get_watermark_offsets(TopicPartition(topic, n))[1])
        for n in partitions
    ]
    reader.close()
    admin = AdminClient({"bootstrap.servers": brokers})  # Its futures end with it.
    for each in admin.delete_records(ends).values():
        each.result(_WITHIN_S)


def _empty_bus(stack: RunningStack) -> None:
    with open_foreign(stack.bus_url) as store:
        store.flushall()


def _at_once(*asking: Callable[[], object]) -> None:
    threads = [threading.Thread(target=each) for each in asking]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _signed(client: Client, *, secret: str | None = None, ago_s: int = 0, times: int = 1) -> None:
    made = client.key(signed=True)
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}).encode()
    at_s = int(time.time()) - ago_s
    headers = signed(secret or made["signing_secret"], "POST", CHAT, body, at_s)
    for _ in range(times):
        client.send("POST", CHAT, body, {"x-api-key": made["key"], **headers})


def _reused_key(client: Client) -> None:
    key, once = client.key()["key"], {"idempotency-key": uuid.uuid4().hex}
    client.chat(key, "first", once)
    client.chat(key, "second", once)


def _in_flight(client: Client) -> None:
    key, once = client.key()["key"], {"idempotency-key": uuid.uuid4().hex}
    content = steer(delay_ms=6_000, output_tokens=2)

    def second() -> None:
        time.sleep(2)
        client.chat(key, content, {**once, "prefer": "wait=0"})

    _at_once(lambda: client.chat(key, content, once), second)


def _cancelled(client: Client) -> None:
    key, once = client.key()["key"], {"idempotency-key": uuid.uuid4().hex}
    content = steer(delay_ms=20_000, output_tokens=2)
    job = client.chat(key, content, {**once, "prefer": "respond-async"}).json()
    client.send("DELETE", f"/v1/jobs/{job['id']}", b"", {"x-api-key": key})
    client.chat(key, content, once)


def _result_lost(client: Client) -> None:
    """It stood beside its outcome, and neither bus nor log has it any more."""
    key, once = client.key()["key"], {"idempotency-key": uuid.uuid4().hex}
    content = steer(output_tokens=3_000)
    client.chat(key, content, once)
    _cut(client.stack.kafka, RESULTS)
    _empty_bus(client.stack)
    client.chat(key, content, once)


def _expired(client: Client) -> None:
    """A stream that its client has to the end, of which the bus has nothing any more."""
    key = client.key()["key"]
    told = client.chat(key, stream=True).text
    last = [line[4:] for line in told.splitlines() if line.startswith("id: ")][-1]
    _empty_bus(client.stack)
    client.chat(key, headers={"last-event-id": last}, stream=True)


def _body_lost(client: Client) -> None:
    """It was admitted, and before a backend is called neither bus nor log has its body any more."""
    key = client.key()["key"]

    def lose() -> None:
        time.sleep(2)
        _cut(client.stack.kafka, REQUESTS)
        _empty_bus(client.stack)

    with _hanging(client.stack, "dispatcher"):
        asking = threading.Thread(target=client.chat, args=(key, "word " * 40_000))
        asking.start()
        lose()
    asking.join()


def _unpriced(client: Client) -> None:
    route = client.admin.get(f"/models/{MODEL}").raise_for_status().json()
    backends = route.get("backends") or route["entity"]["backends"]
    client.admin.put("/models/counted-free", json={"backends": backends}).raise_for_status()
    client.chat(
        client.key({"budgets": [{"usd": "1", "period": "total"}]})["key"], model="counted-free"
    )


def _no_backend(client: Client) -> None:
    gone = {"url": "http://127.0.0.1:9/v1"}
    client.admin.put("/backends/counted-gone", json=gone).raise_for_status()
    model = {"backends": [{"backend": "counted-gone"}], "default_max_output_tokens": 16}
    client.admin.put("/models/counted-gone", json=model).raise_for_status()
    client.chat(model="counted-gone")


def _overloaded(client: Client) -> None:
    key, content = client.key()["key"], steer(delay_ms=2_500, output_tokens=2)
    _at_once(*[lambda: client.chat(key, content, model=NARROW_MODEL)] * 12)


def _no_room(client: Client) -> None:
    """One call fills the backend for longer than the flex request may wait."""
    key, content = client.key()["key"], steer(delay_ms=6_000, output_tokens=2)

    def flex() -> None:
        time.sleep(_REPORTED_S)
        headers = {"x-request-timeout": "1"}
        client.chat(key, model=NARROW_MODEL, service_tier="flex", headers=headers)

    _at_once(lambda: client.chat(key, content, model=NARROW_MODEL), flex)


def _unavailable(client: Client) -> None:
    key = client.key()["key"]
    with _hanging(client.stack, "kafka.Kafka"):
        client.until_ready(503)
        client.chat(key)
    client.until_ready(200)


def _defect(client: Client) -> None:
    """A sum of the ledger is no sum any more, which no code of ours can mean."""
    made = client.key({"budgets": [{"usd": "1", "period": "total"}]})
    client.chat(made["key"])
    with open_foreign(client.stack.ledger_url) as store:
        for key in list(store.scan_iter(key_of(made["org"], "b:*"), count=10_000)):
            store.set(key, "no hash")
    client.chat(made["key"])


def _limited(client: Client, limits: dict[str, Any], times: int) -> None:
    key = client.key({**limits, "on_limit": "reject"})["key"]
    for _ in range(times):
        client.chat(key, max_tokens=8)


def _posted(client: Client, more: str) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    key = client.key()["key"]
    client.raw(f"{head}X-API-Key: {key}\r\n{more}", "chat.completions")


def _forged(token: str) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{signature[::-1]}"


def _named(client: Client, subject: str) -> str:
    return client.provider.token(subject)


_TOTAL: Final = {"period": "total"}
CAUSES: Final[Mapping[ErrorCode, Callable[[Client], object]]] = {
    ErrorCode.INVALID_API_KEY: lambda c: c.chat("nobody's"),
    ErrorCode.INVALID_TOKEN: lambda c: c.chat(_forged(_named(c, "ada"))),
    ErrorCode.CALLER_NOT_ALLOWED: lambda c: c.chat(_named(c, "mallory")),
    ErrorCode.KEY_NOT_ALLOWED: lambda c: c.chat(c.key(scopes=["models:read"])["key"]),
    ErrorCode.CERTIFICATE_UNKNOWN: lambda c: c.administer("GET", "/orgs", Role.FINANCE),
    ErrorCode.ROLE_NOT_ALLOWED: lambda c: c.administer("PUT", "/orgs/x", Role.VIEWER, json={}),
    ErrorCode.SIGNATURE_MISSING: lambda c: c.chat(c.key(signed=True)["key"]),
    ErrorCode.SIGNATURE_INVALID: lambda c: _signed(c, secret="tg_sign_guessed"),
    ErrorCode.SIGNATURE_EXPIRED: lambda c: _signed(c, ago_s=400),
    ErrorCode.SIGNATURE_REPLAYED: lambda c: _signed(c, times=2),
    ErrorCode.INVALID_JSON: lambda c: c.send("POST", CHAT, b"{", {"x-api-key": c.key()["key"]}),
    ErrorCode.INVALID_REQUEST: lambda c: c.chat(n=99),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: lambda c: c.chat(headers={"content-type": "text/plain"}),
    ErrorCode.BODY_TOO_LARGE: lambda c: _posted(c, "Content-Length: 9999999999\r\n\r\n"),
    ErrorCode.BODY_TOO_SLOW: lambda c: _posted(c, "Content-Length: 100\r\n\r\n{"),
    ErrorCode.HEADERS_TOO_LARGE: lambda c: c.raw(
        f"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Long: {'x' * 20_000}\r\n\r\n", "door"
    ),
    ErrorCode.HEADERS_TOO_SLOW: lambda c: c.raw("GET /v1/models HTTP/1.1\r\nHost: x\r\n", "door"),
    ErrorCode.MODEL_NOT_FOUND: lambda c: c.chat(model="counted-none"),
    ErrorCode.MODEL_UNPRICED: _unpriced,
    ErrorCode.IDEMPOTENCY_KEY_REUSED: _reused_key,
    ErrorCode.IDEMPOTENCY_IN_FLIGHT: _in_flight,
    ErrorCode.REQUEST_CANCELLED: _cancelled,
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
    ErrorCode.OVERLOADED: _overloaded,
    ErrorCode.RESOURCE_UNAVAILABLE: _no_room,
    ErrorCode.DEADLINE_EXCEEDED: lambda c: c.chat(
        content=steer(mode="hang"), headers={"x-request-timeout": "1"}
    ),
    ErrorCode.RESULT_LOST: _result_lost,
    ErrorCode.RESULT_EXPIRED: _expired,
    ErrorCode.BODY_LOST: _body_lost,
    ErrorCode.INTERNAL_ERROR: _defect,
    ErrorCode.SERVICE_UNAVAILABLE: _unavailable,
}
"""What causes each; some of it answers other requests on the way, which count as well."""

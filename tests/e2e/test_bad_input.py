"""Bad input, as one table: each row is refused with its status, its code and the field's name.

Nothing of it reaches the log or a backend. The table is printed as Markdown, and kept as a file.
"""

from __future__ import annotations

import gzip
import json
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support.harness.gateway_client import MODEL
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(60, func_only=True)
REQUESTS = "inference.requests.v1"
CHAT, INFERENCE, JOBS = "/chat/completions", "/inference", "/jobs"
MIB = 1024 * 1024
DELETE = object()
"""As a value: the field is left out."""


@dataclass(frozen=True)
class Row:
    """One bad request, and what it is told."""

    name: str
    path: str
    body: bytes
    status: int
    code: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str = "valid"


def _chat(**change: Any) -> bytes:
    fields = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **change}
    return json.dumps({n: v for n, v in fields.items() if v is not DELETE}).encode()


def _native(**change: Any) -> bytes:
    fields = {"request_id": str(uuid.uuid4()), "model": MODEL, "payload": "hi", **change}
    return json.dumps({n: v for n, v in fields.items() if v is not DELETE}).encode()


def _json(name: str, body: bytes) -> Row:
    return Row(name, CHAT, body, 400, "invalid_json")


def _field(name: str, param: str, **change: Any) -> Row:
    return Row(name, CHAT, _chat(**change), 400, "invalid_request", param)


def _native_field(name: str, param: str, **change: Any) -> Row:
    return Row(name, INFERENCE, _native(**change), 400, "invalid_request", param)


def _key(name: str, key: str) -> Row:
    return Row(name, CHAT, _chat(), 401, "invalid_api_key", key=key)


def _header(name: str, header: str, value: str) -> Row:
    return Row(name, CHAT, _chat(), 400, "invalid_request", header, headers={header: value})


def _media(name: str, headers: Mapping[str, str], body: bytes = b"{}") -> Row:
    return Row(name, CHAT, body, 415, "unsupported_media_type", headers=headers)


NOT_JSON = [
    _json("empty body", b""),
    _json("malformed JSON", b'{"model": '),
    _json("not an object", b"[1, 2]"),
    _json("not UTF-8", b'{"model": "\xff"}'),
    _json("two documents", _chat() + _chat()),
    _json("nesting of 65", b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}"),
    _json("nesting of 100000", b"[" * 100_000),
    _json("duplicate key", b'{"model": "a", "model": "b"}'),
    _json("duplicate key, escaped", b'{"model": "a", "mod\\u0065l": "b"}'),
    _json("NaN", b'{"temperature": NaN}'),
    _json("Infinity", b'{"temperature": -Infinity}'),
    _json("number out of range", b'{"temperature": 1e999}'),
    _json("integer beyond 64 bits", b'{"seed": 18446744073709551616}'),
    _json("integer of 100000 digits", b'{"seed": ' + b"9" * 100_000 + b"}"),
    _json("lone surrogate", b'{"model": "\\ud800"}'),
]
WRONG_FIELDS = [
    _field("model missing", "model", model=DELETE),
    _field("model of wrong type", "model", model=7),
    _field("model empty", "model", model=""),
    _field("messages missing", "messages", messages=DELETE),
    _field("messages empty", "messages", messages=[]),
    _field("messages of wrong type", "messages", messages="hi"),
    _field("message of wrong type", "messages[0]", messages=["hi"]),
    _field(
        "content of unbounded kind",
        "messages[0].content[0].type",
        messages=[{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
    ),
    _field("stream of wrong type", "stream", stream="yes"),
    _field("stream_options without stream", "stream_options", stream_options={}),
    _field("n too large", "n", n=9),
    _field("n of zero", "n", n=0),
    _field("n a boolean", "n", n=True),
    _field("max_tokens negative", "max_tokens", max_tokens=-1),
    _field("max_tokens of wrong type", "max_tokens", max_tokens="10"),
    _field("max_completion_tokens a fraction", "max_completion_tokens", max_completion_tokens=1.5),
    _field("tools of wrong type", "tools", tools={}),
    Row("unknown model", CHAT, _chat(model="nope"), 404, "model_not_found", "model"),
]
WRONG_NATIVE_FIELDS = [
    _native_field("request_id missing", "request_id", request_id=DELETE),
    _native_field("request_id not a UUID", "request_id", request_id="42"),
    _native_field("request_id in braces", "request_id", request_id=f"{{{uuid.uuid4()}}}"),
    _native_field("payload missing", "payload", payload=DELETE),
    _native_field("payload empty", "payload", payload=""),
    _native_field("payload of wrong type", "payload", payload=7),
    _native_field("parameters of wrong type", "parameters", parameters=[]),
    _native_field("parameters that replace", "parameters.model", parameters={"model": "other"}),
    _native_field("unknown field", "temperature", temperature=1),
    Row("unknown model", INFERENCE, _native(model="nope"), 404, "model_not_found", "model"),
]
WRONG_JOBS = [
    Row("ttl_s too long", JOBS, _chat(ttl_s=601), 400, "invalid_request", "ttl_s"),
    Row("ttl_s a boolean", JOBS, _chat(ttl_s=True), 400, "invalid_request", "ttl_s"),
    Row("job that streams", JOBS, _chat(stream=True), 400, "invalid_request", "stream"),
    Row("payload and messages", JOBS, _chat(payload="hi"), 400, "invalid_request", "payload"),
    Row("malformed JSON", JOBS, b"{", 400, "invalid_json"),
]
WRONG_HEADERS = [
    _media("no content type", {"content-type": ""}),
    _media("wrong content type", {"content-type": "text/plain"}, _chat()),
    _media("form", {"content-type": "application/x-www-form-urlencoded"}, b"model=a"),
    _media("gzip encoding", {"content-encoding": "gzip"}, gzip.compress(_chat())),
    _header("timeout not a number", "X-Request-Timeout", "soon"),
    _header("timeout of zero", "X-Request-Timeout", "0"),
    _header("timeout negative", "X-Request-Timeout", "-1"),
    _header("timeout of NaN", "X-Request-Timeout", "nan"),
    _header("idempotency key with a space", "Idempotency-Key", "a b"),
    _header("idempotency key too long", "Idempotency-Key", "x" * 256),
    Row("body over the limit", CHAT, b" " * (4 * MIB + 1), 413, "body_too_large"),
]
WRONG_KEYS = [
    _key("no key", "none"),
    _key("malformed key", "malformed"),
    _key("key with a wrong character", "mistyped"),
    _key("unknown key", "unknown"),
    _key("revoked key", "revoked"),
    _key("expired key", "expired"),
]
ROWS = NOT_JSON + WRONG_FIELDS + WRONG_NATIVE_FIELDS + WRONG_JOBS + WRONG_HEADERS + WRONG_KEYS


class Table:
    """What was asked and answered, as Markdown."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = ["| input | path | status | code | param |", "|---|---|---|---|---|"]

    def add(self, row: Row, answer: httpx.Response, code: str, param: str | None) -> None:
        self._lines.append(
            f"| {row.name} | {row.path} | {answer.status_code} | {code} | {param or 'none'} |"
        )

    def publish(self) -> None:
        self._path.write_text("\n".join(self._lines) + "\n")
        print(f"\n{self._path}", *self._lines, sep="\n")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """The table of this run."""
    made = Table(tmp_path_factory.mktemp("bad-input") / "bad-input.md")
    yield made
    made.publish()


@pytest.fixture(scope="module")
def keys(make_key: MakeKey, admin: httpx.Client) -> dict[str, str]:
    """Keys by their condition; `none` stands for no key at all."""
    valid = make_key("bad-input-org")
    revoked = make_key("bad-input-org")
    admin.post(f"/keys/{revoked.key_id}/revoke").raise_for_status()
    return {
        "valid": valid.key,
        "malformed": "tg_live_short",
        "mistyped": _mistyped(valid),
        "unknown": _unknown_key(),
        "revoked": revoked.key,
        "expired": _expired_key(admin),
    }


def _mistyped(grant: Grant) -> str:
    position = len("tg_live_") + 3
    other = "a" if grant.key[position] != "a" else "b"
    return grant.key[:position] + other + grant.key[position + 1 :]


def _unknown_key() -> str:
    """A well-formed key that nobody was given; its checksum is that of CRC-32 in base62."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    body, number, check = "Z" * 30, zlib.crc32(b"Z" * 30), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        check = alphabet[digit] + check
    return f"tg_live_{body}{check}"


def _expired_key(admin: httpx.Client) -> str:
    """A key whose time is over by now."""
    soon_ms = int(time.time() * 1000) + 800
    body = {"org": "bad-input-org", "name": "expired", "expires_at_ms": soon_ms}
    made = admin.post("/keys", json=body).raise_for_status().json()
    time.sleep(1.0)
    return str(made["key"])


@pytest.fixture(scope="module")
def end_of_log(stack: RunningStack) -> Iterator[Callable[[], int]]:
    """Tells how many requests were ever produced."""
    settings = {"bootstrap.servers": stack.kafka, "group.id": "bad-input-reader"}
    consumer = Consumer({**settings, "enable.auto.commit": False})

    def end() -> int:
        partitions = consumer.list_topics(REQUESTS, timeout=10).topics[REQUESTS].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(REQUESTS, p)) for p in partitions]
        return sum(end for _, end in ends)

    yield end
    consumer.close()


def test_the_row_that_is_not_bad_is_accepted(
    stack: RunningStack, keys: dict[str, str], end_of_log: Callable[[], int]
) -> None:
    """What all rows are changes of is a good request, and the counter of this table sees it."""
    before = end_of_log()
    row = Row("good", CHAT, _chat(), 200, "")

    assert _send(stack, keys, row).status_code == 200
    assert end_of_log() == before + 1


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.path[1:]}: {row.name}" for row in ROWS])
def test_bad_input_is_refused(
    stack: RunningStack,
    keys: dict[str, str],
    oracle: Oracle,
    end_of_log: Callable[[], int],
    table: Table,
    row: Row,
) -> None:
    """With its status, code and field; nothing is produced, no backend is called."""
    calls, end = len(oracle.calls()), end_of_log()
    answer = _send(stack, keys, row)
    error = answer.json() if row.path != CHAT else answer.json()["error"]
    table.add(row, answer, error["code"], error.get("param"))

    assert (answer.status_code, error["code"]) == (row.status, row.code), answer.text
    assert error.get("param") == row.param, answer.text
    assert answer.headers["x-request-id"]
    assert (len(oracle.calls()), end_of_log()) == (calls, end)


def _send(stack: RunningStack, keys: dict[str, str], row: Row) -> httpx.Response:
    headers = {"content-type": "application/json", **row.headers}
    if row.key != "none":
        headers["x-api-key"] = keys[row.key]
    return httpx.post(
        f"{stack.api_url}{row.path}", content=row.body, headers=headers, trust_env=False, timeout=30
    )

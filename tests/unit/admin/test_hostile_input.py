"""Whatever is sent to the admin API is answered with a 4xx in the form that programs parse."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ingress.admin.config.entities import KIND_OF_PATH
from schemas.errors import ERRORS, ErrorCode
from schemas.overrides import OVERRIDES
from tests.unit.admin.admin_api import admin_app

_HOST = {"host": "127.0.0.1:8443"}
_JSON = {**_HOST, "content-type": "application/json"}
_KNOWN = {code.value for code in ErrorCode}
_ID = "018bcfe5-6800-7000-8000-000000000001"


@pytest.fixture
async def admin(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    app, _ = admin_app(monkeypatch)
    # A defect is answered and not raised, as behind a real server.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8443") as client:
        yield client


def _check(answer: httpx.Response) -> None:
    """A problem of the table, under the status of its code."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["code"] in _KNOWN
    assert answer.status_code == ERRORS[ErrorCode(body["code"])].status == body["status"]
    assert 400 <= answer.status_code < 500, body
    assert len(body["detail"]) <= 2_000


HOSTS = (
    b"", b"[::1", b"::1]", b"[::1]x", b"a:b:c", b"127.0.0.1:99999999", b"127.0.0.1:x", b"127.0.0.1 ",
    b"127.0.0.1/x", b"127.0.0.1@evil", b"evil@127.0.0.1", b"127.0.0.1.evil.example", b"localhost.",
    b"\xff\xfe", b"loc\xc3\xa4lhost", b"127.0.0.1\t", b"0x7f.1", b"2130706433", b"[::ffff:127.0.0.1]",
    b"a" * 10_000, b"localhost\x00", b"127.0.0.1:8443,evil", b"\xe2\x84\x80",
)  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", ["/admin/v1/status", "/admin/v1/orgs", "/nothing"])
async def test_only_loopback_is_a_host(admin: httpx.AsyncClient, host: bytes, path: str) -> None:
    """A host that cannot even be parsed is not ours."""
    answer = await admin.get(path, headers=[(b"host", host)])

    _check(answer)
    assert answer.status_code == 403


ORIGINS = (
    "null",
    "http://[::1",
    "http://127.0.0.1:8443.evil",
    "//127.0.0.1:8443",
    "http://\xff",
    "",
)


@pytest.mark.parametrize("origin", ORIGINS)
async def test_only_our_own_pages_may_call(admin: httpx.AsyncClient, origin: str) -> None:
    """Another origin is refused, however it is written."""
    raw = [(b"host", b"127.0.0.1:8443"), (b"origin", origin.encode("latin-1"))]
    answer = await admin.get("/admin/v1/status", headers=raw)

    assert answer.status_code == 403


async def test_two_hosts_are_none(admin: httpx.AsyncClient) -> None:
    """Whoever stands behind would choose the other one."""
    raw = [(b"host", b"127.0.0.1:8443"), (b"host", b"evil.example")]
    answer = await admin.get("/admin/v1/status", headers=raw)

    assert answer.status_code == 403


_DIGITS = "9" * 5_000
QUERIES = (
    *(f"/audit?limit={text}" for text in ("", "0", "-1", "1e3", "nan", "x", _DIGITS, "%00", "\u0663")),
    *(f"/dlq?limit={text}" for text in ("", "0", "-1", "1001", "nan", "\u00b2", _DIGITS, "%ff")),
    *(
        f"/{route}?{end}={quote(text)}"
        for route in ("audit", "usage")
        for end in ("from", "to")
        for text in (
            "", "x", "nan", "2026-13-01", "2026-02-30", "0001-01-01", "9999-12-31T23:59:59",
            "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-11-25T00:00:00+99:99",
            "-1", "1e9", "2026-11-25\x00", _DIGITS, "\u0662\u0660\u0662\u0666-01-01",
        )
    ),
    *(
        f"/{route}?org={text}"
        for route in ("audit", "usage", f"requests/{_ID}")
        for text in ("", "%00", "a%0Ab", "%7Bx%7D", "a%20b", "a" * 5_000, "%ff", "..%2f..")
    ),
    "/audit?request_id=x", "/audit?request_id=%00", f"/audit?request_id={_DIGITS}", "/audit?x=1",
    "/usage?by=", "/usage?by=org,org", "/usage?by=planet", "/usage?by=%00", "/usage?x=1",
    "/usage?from=2026-11-25&to=2026-11-24", "/usage?from=2020-01-01&to=2026-01-01",
    *(f"/ledger/verify?deadline_s={text}" for text in ("", "x", "nan", "inf", "-1", "601", "1e999", _DIGITS)),
    *(f"/requests/{text}" for text in ("x", "%00", "%ff", "..", _ID[:-1], _ID.replace("7", "4", 1)[:15] + "4" + _ID[15:], _DIGITS)),
    *(
        f"/dlq/{text}"
        for text in (
            "x", "%00", "inference.requests.v1.dlq", "inference.requests.v1.dlq-0@", "audit.router-0@1",
            f"inference.requests.v1.dlq-0@{_DIGITS}", f"inference.requests.v1.dlq-{_DIGITS}@1",
            "inference.requests.v1.dlq-\u0660@1",
        )
    ),
    *(f"/{path}/{text}" for path in KIND_OF_PATH for text in ("%00", "%ff", "a%0Ab", "x" * 5_000, "%2e%2e")),
    "/routes/nowhere", "/routes/%00", "/routes/%ff", "/routes/a?x=1", f"/routes/{'x' * 5_000}",
    "/nothing", "/orgs/../../x", "/%00", "//", "/status/x",
)  # fmt: skip


@pytest.mark.parametrize("path", QUERIES)
async def test_a_question_that_makes_no_sense_is_refused(
    admin: httpx.AsyncClient, path: str
) -> None:
    """It names what is wrong; nothing is looked up for it."""
    _check(await admin.get(f"/admin/v1{path}", headers=_HOST))


BODIES: tuple[bytes, ...] = (
    b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"\x00", b"NaN", b"{}garbage", b'{"x":1}',
    b"[" * 100_000, b'{"limits":' * 20_000, b'{"name":"\\ud800"}', b'{"name":"\\u0000"}',
    b'{"limits":{"requests_per_s":NaN}}', b'{"limits":{"requests_per_s":1e999}}',
    b'{"limits":{"requests_per_s":' + b"9" * 5_000 + b"}}", b'{"limits":{"burst":1.5}}',
    b'{"limits":{"burst":-1}}', b'{"limits":null}', b'{"org":1}', b'{"org":"' + b"a" * 5_000 + b'"}',
    b'{"url":"http://[::1/v1"}', b'{"url":"http://h:99999"}', b'{"grace_s":NaN}', b'{"grace_s":1e300}',
    b'{"grace_s":-1}', b'{"backends":[]}', b'{"backends":{}}', b'{"again":1}', b" " * 300_000,
)  # fmt: skip
WRITES = (
    *(("PUT", f"/overrides/{kind}/a") for kind in OVERRIDES),
    ("PUT", "/overrides/detour/a"),
    *(("PUT", f"/{path}/a") for path in KIND_OF_PATH),
    ("POST", "/keys"),
    ("POST", "/keys/key_a/rotate"),
    ("POST", "/config/adopt"),
    ("POST", "/dlq/inference.requests.v1.dlq-0@x/retry"),
)


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_a_body_that_makes_no_sense_is_refused(
    admin: httpx.AsyncClient, method: str, path: str
) -> None:
    """Whatever it is, on every route that takes one."""
    for body in BODIES:
        answer = await admin.request(method, f"/admin/v1{path}", content=body, headers=_JSON)
        _check(answer)
    for media in (b"", b"text/plain", b"application/jsonx", b"\xff", b"application/json" * 1_000):
        headers = {b"host": b"127.0.0.1:8443", b"content-type": media}
        answer = await admin.request(method, f"/admin/v1{path}", content=b"{}", headers=headers)
        _check(answer)


@pytest.mark.parametrize(
    "version", ["", "x", "-1", "1.5", '"', "*", _DIGITS, "\xb2", "W/1", "1, 2"]
)
async def test_a_version_that_makes_no_sense_is_refused(
    admin: httpx.AsyncClient, version: str
) -> None:
    """Else a write would not be a compare-and-set."""
    headers = {**_JSON, "if-match": version.encode("latin-1")}
    for method, path in (("PUT", "/orgs/acme"), ("DELETE", "/orgs/acme")):
        answer = await admin.request(method, f"/admin/v1{path}", content=b"{}", headers=headers)  # type: ignore[arg-type]
        _check(answer)


@pytest.mark.parametrize(
    "entity_id", ["%00", "a%0A", "a%20b", "%ff", "x" * 200, "%7Ba%7D", "-a", "a%09"]
)
@pytest.mark.parametrize("path", KIND_OF_PATH)
async def test_an_id_that_makes_no_sense_is_not_written(
    admin: httpx.AsyncClient, path: str, entity_id: str
) -> None:
    """Ids become parts of keys in the store and of names in the log."""
    for method in ("PUT", "DELETE"):
        answer = await admin.request(
            method, f"/admin/v1/{path}/{entity_id}", content=b"{}", headers=_JSON
        )
        _check(answer)
    for action in ("drain", "restore"):
        _check(await admin.post(f"/admin/v1/backends/{entity_id}/{action}", headers=_HOST))
    _check(await admin.post(f"/admin/v1/keys/{entity_id}/revoke", headers=_HOST))


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "PROPFIND", "A" * 1_000])
async def test_a_method_that_no_route_has_is_refused(admin: httpx.AsyncClient, method: str) -> None:
    """On paths that exist."""
    for path in ("/status", "/orgs", "/orgs/a", "/keys", "/audit"):
        _check(await admin.request(method, f"/admin/v1{path}", headers=_HOST))


async def test_what_makes_sense_is_done(admin: httpx.AsyncClient) -> None:
    """Else all of the above proves nothing."""
    put = await admin.put("/admin/v1/orgs/acme", content=b"{}", headers=_JSON)
    key = await admin.post("/admin/v1/keys", content=b'{"org":"acme"}', headers=_JSON)
    listed = await admin.get("/admin/v1/keys", headers=_HOST)
    status = await admin.get("/admin/v1/status", headers=_HOST)

    assert (put.status_code, key.status_code) == (200, 201)
    assert [item["id"] for item in listed.json()["items"]] == [key.json()["key_id"]]
    assert status.json()["config"]["offset"] == 1


async def test_nothing_that_is_thrown_at_it_makes_it_fail(admin: httpx.AsyncClient) -> None:
    """A thousand requests from a fixed seed, put together from odd pieces: never a 5xx."""
    draw = random.Random(7)  # reproducible, no secret
    paths = [path.partition("?")[0] for path in QUERIES if "requests/018" not in path]
    pieces = [
        "%00",
        "%ff",
        "/",
        "..",
        "a",
        "{}",
        "[",
        "]",
        ":",
        "@",
        "?",
        "=",
        "&",
        "9" * 30,
        "\u0663",
        "%",
    ]
    for _ in range(1_000):
        path = draw.choice(paths) + "".join(draw.choices(pieces, k=draw.randrange(5)))
        body: Any = draw.choice(BODIES)
        if draw.random() < 0.3:
            body = json.dumps(
                {draw.choice(["org", "limits", "url", "name"]): draw.random()}
            ).encode()
        answer = await admin.request(
            draw.choice(["GET", "PUT", "POST", "DELETE"]),
            f"/admin/v1{path}",
            content=body,
            headers={**_JSON, "if-match": draw.choice(["", "0", "x"])}
            if draw.random() < 0.5
            else _JSON,
        )
        # Without Kafka, what is looked up in the log is answered as unavailable, which is true.
        assert answer.status_code < 500 or answer.json()["code"] == "service_unavailable", (
            path,
            body,
        )

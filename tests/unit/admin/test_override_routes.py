"""Overrides over the admin API: put in force, ended by time or by hand, listed with who and why, refused by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from ingress.admin.config.config_writer import audit_of
from ingress.admin.config.override_edit import override_edit
from ingress.admin.http.refusal import Refusal
from schemas.errors import ErrorCode
from schemas.overrides import Drain, Pin
from schemas.routes import route_at
from tests.unit.admin.admin_api import Feed, admin_app

_HEADERS = {"host": "127.0.0.1:8443"}
NOW_MS = 1_800_000_000_000
Api = tuple[httpx.AsyncClient, Feed]


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """The admin API with two backends on one model, and its configuration."""
    app, feed = admin_app(monkeypatch)
    base = "http://127.0.0.1:8443/admin/v1"
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url=base, headers=_HEADERS
    ) as client:
        for name in ("a", "b", "spare"):
            await _ok(client.put(f"/backends/{name}", json={"url": "http://127.0.0.1:1/v1"}))
        targets = [{"backend": "a"}, {"backend": "b"}]
        await _ok(client.put("/models/my/echo", json={"backends": targets}))
        yield client, feed


async def _ok(answer: Any) -> Any:
    return (await answer).raise_for_status().json()


def _called(feed: Feed, now_ms: int = NOW_MS) -> list[str]:
    route = route_at("my/echo", feed.snapshot, now_ms)
    assert route is not None
    return [target.backend for target in route.targets]


async def test_an_override_is_put_in_force_and_restored(api: Api) -> None:
    """What was declared stays as it is, and is in force again afterwards."""
    client, feed = api
    declared = await _ok(client.get("/models/my/echo"))

    written = await _ok(
        client.put("/overrides/pin/my/echo", json={"backend": "b", "reason": "night"})
    )

    assert (written["kind"], written["id"], written["version"]) == ("pin", "my/echo", 1)
    assert (written["applied"], written["warnings"]) == (True, [])
    assert _called(feed) == ["b"]
    assert await _ok(client.get("/models/my/echo")) == declared

    await _ok(client.delete("/overrides/pin/my/echo"))

    assert _called(feed) == ["a", "b"]


async def test_the_list_says_who_until_when_and_why(api: Api) -> None:
    """The same stands in the status."""
    client, _ = api
    await _ok(
        client.put("/overrides/canary/my/echo", json={"backend": "b", "percent": 5, "for_s": 60})
    )
    await _ok(client.put("/overrides/drain/spare", json={"reason": "new driver"}))

    listed = await _ok(client.get("/overrides"))
    canary, drain = listed["items"]

    assert (canary["kind"], canary["what"], canary["by"]) == ("canary", "5 % to b", "admin")
    assert 0 < canary["expires_at_ms"] - listed["now_ms"] <= 60_000
    assert (drain["id"], drain["reason"], drain["expires_at_ms"]) == ("spare", "new driver", None)
    assert [canary["in_force"], drain["in_force"]] == [True, True]
    assert (await _ok(client.get("/status")))["overrides"] == listed["items"]


async def test_an_override_of_what_is_not_there_is_refused(api: Api) -> None:
    """It says which backend is not on the route."""
    client, feed = api
    answer = await client.put("/overrides/pin/my/echo", json={"backend": "spare"})

    assert answer.status_code == 409
    assert "spare" in answer.json()["detail"]
    assert _called(feed) == ["a", "b"]


async def test_a_model_that_is_left_without_a_backend_is_named(api: Api) -> None:
    """The override holds all the same: an operator may want that."""
    client, feed = api
    first = await _ok(client.post("/backends/a/drain"))
    second = await _ok(client.put("/overrides/drain/b", json={}))

    assert first["warnings"] == []
    assert [("my/echo" in told, "503" in told) for told in second["warnings"]] == [(True, True)]
    assert _called(feed) == []


async def test_draining_leaves_the_declared_backend_as_it_is(api: Api) -> None:
    """So a file that is applied neither sees nor undoes it; the list tells both."""
    client, feed = api
    await _ok(client.post("/backends/a/drain", json={"for_s": 60}))
    (listed,) = [b for b in (await _ok(client.get("/backends")))["items"] if b["id"] == "a"]

    assert (listed["state"], listed["drained"]) == ("active", True)
    body = {name: listed[name] for name in ("url", "state")}
    await _ok(client.put("/backends/a", json=body))
    assert isinstance(feed.snapshot.drains["a"], Drain)


@pytest.mark.parametrize("declared", ["active", "drained"])
async def test_a_backend_is_restored_by_whichever_way_it_was_drained(
    api: Api, declared: str
) -> None:
    """By an operator, by its declaration, or by both."""
    client, feed = api
    url = feed.snapshot.backends["a"].url
    await _ok(client.put("/backends/a", json={"url": url, "state": declared}))
    await _ok(client.post("/backends/a/drain"))
    assert _called(feed) == ["b"]

    await _ok(client.post("/backends/a/restore"))

    assert _called(feed) == ["a", "b"]
    again = await client.post("/backends/a/restore")
    assert again.status_code == 200


async def test_what_is_about_a_deleted_entity_goes_with_it(api: Api) -> None:
    """A backend that comes again under the name of one that was removed is not drained."""
    client, feed = api
    await _ok(client.post("/backends/spare/drain"))
    await _ok(client.delete("/backends/spare"))
    await _ok(client.put("/overrides/timeout/my/echo", json={"timeout_s": 5}))
    await _ok(client.delete("/models/my/echo"))

    assert (await _ok(client.get("/overrides")))["items"] == []
    assert not feed.snapshot.problems


async def test_one_that_is_read_at_another_version_is_not_replaced(api: Api) -> None:
    """Two operators at once."""
    client, _ = api
    await _ok(client.put("/overrides/pin/my/echo", json={"backend": "a"}))
    late = await client.put(
        "/overrides/pin/my/echo", json={"backend": "b"}, headers={"if-match": "0"}
    )

    assert (late.status_code, late.json()["code"]) == (409, "version_conflict")


async def test_an_unreadable_one_is_listed_and_can_be_ended(api: Api) -> None:
    """A newer version wrote it; its route is as if it were not there."""
    client, feed = api
    written = await _ok(client.put("/overrides/pin/my/echo", json={"backend": "b"}))
    entry = feed.entry("pin", "my/echo")
    assert entry is not None
    feed.take(msgspec.structs.replace(entry, version=written["version"] + 1, body='{"planet":1}'))
    (listed,) = (await _ok(client.get("/overrides")))["items"]

    assert not listed["in_force"]
    assert "planet" in listed["why_not"]
    assert _called(feed) == ["a", "b"]
    await _ok(client.delete("/overrides/pin/my/echo"))
    assert (await _ok(client.get("/overrides")))["items"] == []


async def test_one_that_has_ended_is_no_problem_of_the_configuration(api: Api) -> None:
    """What it names may be gone by then; it stays in the list until somebody restores or replaces it."""
    client, feed = api
    body = {"backend": "b", "percent": 5, "expires_at_ms": 4_000_000_000_000}
    await _ok(client.put("/overrides/canary/my/echo", json=body))
    entry = feed.entry("canary", "my/echo")
    assert entry is not None
    past = msgspec.json.encode(body | {"expires_at_ms": 1}).decode()
    feed.take(msgspec.structs.replace(entry, version=entry.version + 1, body=past))
    await _ok(client.put("/models/my/echo", json={"backends": [{"backend": "a"}]}))
    assert feed.snapshot.problems

    status = await _ok(client.get("/status"))

    assert status["config"]["problems"] == []
    assert [each["why_not"] for each in status["overrides"]] == ["ended"]


@pytest.mark.parametrize(
    ("body", "expires_at_ms"),
    [
        (b'{"backend":"a"}', None),
        (b'{"backend":"a","for_s":90}', NOW_MS + 90_000),
        (b'{"backend":"a","for_s":0.5}', NOW_MS + 500),
        (b'{"backend":"a","for_s":null}', None),
        (b'{"backend":"a","expires_at_ms":1800000000001}', NOW_MS + 1),
    ],
)
def test_an_override_ends_when_it_says(body: bytes, expires_at_ms: int | None) -> None:
    """A span counts from now, by the clock of the gateway."""
    edit = override_edit("pin", body, NOW_MS)

    assert not isinstance(edit, Refusal)
    assert edit(None) == Pin(backend="a", expires_at_ms=expires_at_ms)


@pytest.mark.parametrize(
    "body",
    [
        b'{"backend":"a","for_s":90,"expires_at_ms":1800000090000}',
        b'{"backend":"a","expires_at_ms":1800000000000}',
        b'{"backend":"a","for_s":0}',
        b'{"backend":"a","for_s":-1}',
        b'{"backend":"a","for_s":1e300}',
        b'{"backend":"a","for_s":"2h"}',
        b'{"backend":"a","for_s":NaN}',
        b'{"backend":"a","percent":5}',
        b'{"reason":"no backend"}',
        b'{"for_s":1',
        b"[]",
        b"\xff",
    ],
)
def test_an_override_that_makes_no_sense_is_refused(body: bytes) -> None:
    """Two ends, an end in the past, no span, a field of another kind, no JSON."""
    edit = override_edit("pin", body, NOW_MS)

    assert isinstance(edit, Refusal)
    assert edit.code in (ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_JSON)


async def test_the_audit_event_says_what_until_when_and_why(api: Api) -> None:
    """An auditor sees more than that somebody wrote something."""
    client, feed = api
    await _ok(
        client.put(
            "/overrides/pin/my/echo",
            json={"backend": "b", "expires_at_ms": 4_000_000_000_000, "reason": "night"},
        )
    )
    entry = feed.entry("pin", "my/echo")
    assert entry is not None
    event = audit_of(entry, "admin.route_pin")

    assert (event.actor, event.action) == ("admin", "admin.route_pin")
    assert event.audit_id == "config:pin/my/echo:1"
    said = msgspec.json.decode(event.detail)["override"]
    assert said == {"backend": "b", "expires_at_ms": 4_000_000_000_000, "reason": "night"}

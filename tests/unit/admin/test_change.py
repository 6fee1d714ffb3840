"""The decision of one change to the configuration."""

from __future__ import annotations

import msgspec
import pytest

from ingress.admin.config.change import Change, decide
from ingress.admin.config.entities import activation, removal, replacement
from ingress.admin.http.refusal import Refusal
from schemas.entities import Kind
from schemas.errors import ErrorCode
from schemas.events import ConfigEntry

NOW_MS = 1_800_000_000_000


def entry(kind: Kind, entity_id: str, body: object, version: int = 1) -> ConfigEntry:
    return ConfigEntry(
        kind=kind,
        id=entity_id,
        version=version,
        body=None if body is None else msgspec.json.encode(body).decode(),
        written_at_ms=1,
        written_by="admin",
    )


BACKEND = entry("backend", "a", {"url": "http://127.0.0.1:1/v1"}, version=4)
MODEL = entry("model", "m", {"backends": [{"backend": "a"}]})


def put(kind: Kind, entity_id: str, body: object, if_match: int | None = None) -> Change:
    edit = replacement(kind, msgspec.json.encode(body))
    assert not isinstance(edit, Refusal)
    return Change(kind, entity_id, edit, "admin", if_match)


def test_a_new_entity_gets_version_1() -> None:
    """Versions count from 1."""
    decided = decide([], put("organization", "acme", {}), NOW_MS)

    assert isinstance(decided, ConfigEntry)
    assert (decided.kind, decided.id, decided.version) == ("organization", "acme", 1)
    assert decided.written_at_ms == NOW_MS


def test_a_change_gets_the_version_after_the_current_one() -> None:
    """A version is never used twice."""
    decided = decide([BACKEND], put("backend", "a", {"url": "http://h/v1"}), NOW_MS)

    assert isinstance(decided, ConfigEntry)
    assert decided.version == 5


def test_a_deleted_entity_keeps_its_place_in_the_versions() -> None:
    """Somebody who still holds version 2 must not match the entity that came after it."""
    gone = entry("organization", "acme", None, version=3)

    decided = decide([gone], put("organization", "acme", {}, if_match=0), NOW_MS)

    assert isinstance(decided, ConfigEntry)
    assert decided.version == 4


@pytest.mark.parametrize(("if_match", "is_written"), [(3, False), (4, True), (0, False)])
def test_a_change_of_another_version_is_refused(if_match: int, is_written: bool) -> None:
    """If-Match is a compare-and-set."""
    change = put("backend", "a", {"url": "http://h/v1"}, if_match)

    decided = decide([BACKEND], change, NOW_MS)

    assert isinstance(decided, ConfigEntry) is is_written
    if isinstance(decided, Refusal):
        assert decided.code is ErrorCode.VERSION_CONFLICT


def test_a_reference_to_nothing_is_refused_and_named() -> None:
    """A model cannot name a backend that does not exist."""
    change = put("model", "m", {"backends": [{"backend": "nowhere"}]})

    decided = decide([BACKEND], change, NOW_MS)

    assert isinstance(decided, Refusal)
    assert decided.code is ErrorCode.REFERENCE_CONFLICT
    assert "nowhere" in decided.detail


def test_what_is_referred_to_cannot_be_deleted() -> None:
    """The refusal names who refers to it."""
    change = Change("backend", "a", removal("backend", "a"), "admin")

    decided = decide([BACKEND, MODEL], change, NOW_MS)

    assert isinstance(decided, Refusal)
    assert decided.code is ErrorCode.REFERENCE_CONFLICT
    assert "model/m" in decided.detail


def test_old_problems_of_others_do_not_block_a_change() -> None:
    """One broken entity must not freeze the whole configuration."""
    broken = entry("project", "p", {"org": "nobody"})

    decided = decide([broken], put("organization", "acme", {}), NOW_MS)

    assert isinstance(decided, ConfigEntry)


def test_what_is_not_referred_to_can_be_deleted() -> None:
    """A deletion is an entry without a body."""
    change = Change("backend", "a", removal("backend", "a"), "admin")

    decided = decide([BACKEND], change, NOW_MS)

    assert isinstance(decided, ConfigEntry)
    assert decided.body is None


def test_deleting_what_does_not_exist_is_refused() -> None:
    """A deletion of a mistyped id does not look like a success."""
    decided = decide([], Change("model", "x", removal("model", "x"), "admin"), NOW_MS)

    assert isinstance(decided, Refusal)
    assert decided.code is ErrorCode.NOT_FOUND


def test_a_closed_entity_is_opened_by_writing_it_anew_or_deleting_it() -> None:
    """At the next version; what cannot be shown counts as absent for whoever states a version."""
    unreadable = msgspec.structs.replace(BACKEND, version=3, body='{"url":"http://[::1/v1"}')
    fixes = (
        put("backend", "a", {"url": "http://127.0.0.1:1/v1"}, if_match=0),
        Change("backend", "a", removal("backend", "a"), "admin", if_match=0),
    )

    for fix in fixes:
        decided = decide([unreadable], fix, NOW_MS)
        assert isinstance(decided, ConfigEntry)
        assert decided.version == 4


def test_restoring_a_backend_that_is_declared_drained_changes_the_state_only() -> None:
    """All other fields of the backend stay."""
    drained = entry("backend", "a", {"url": "http://127.0.0.1:1/v1", "state": "drained"})

    decided = decide([drained], Change("backend", "a", activation("a"), "admin"), NOW_MS)

    assert isinstance(decided, ConfigEntry)
    assert decided.body is not None
    body = msgspec.json.decode(decided.body)
    assert (body["state"], body["url"]) == ("active", "http://127.0.0.1:1/v1")


PIN = entry("pin", "m", {"backend": "a", "expires_at_ms": NOW_MS + 1})
OTHER_ROUTE = {"backends": [{"backend": "b"}]}
OTHER = entry("backend", "b", {"url": "http://127.0.0.1:2/v1"})


def test_what_an_override_names_does_not_leave_its_route() -> None:
    """Else requests would go where an operator decided at night that they must not."""
    decided = decide([BACKEND, OTHER, MODEL, PIN], put("model", "m", OTHER_ROUTE), NOW_MS)

    assert isinstance(decided, Refusal)
    assert decided.code is ErrorCode.REFERENCE_CONFLICT
    assert "pin/m" in decided.detail


def test_an_override_that_ended_is_in_nobodys_way() -> None:
    """Though nobody deleted it."""
    decided = decide([BACKEND, OTHER, MODEL, PIN], put("model", "m", OTHER_ROUTE), NOW_MS + 1)

    assert isinstance(decided, ConfigEntry)


def test_what_an_override_is_about_may_be_deleted() -> None:
    """A backend is drained before it is removed; the drain goes with it."""
    drain = entry("drain", "b", {})

    decided = decide(
        [BACKEND, OTHER, drain], Change("backend", "b", removal("backend", "b"), "admin"), NOW_MS
    )

    assert isinstance(decided, ConfigEntry)


@pytest.mark.parametrize(
    ("kind", "name", "body"),
    [
        ("pin", "m", {"backend": "b"}),
        ("pin", "other", {"backend": "a"}),
        ("weights", "m", {"weights": {"b": 1}}),
        ("canary", "m", {"backend": "b", "percent": 5}),
        ("timeout", "other", {"timeout_s": 5}),
        ("drain", "nowhere", {}),
    ],
)
def test_an_override_of_what_is_not_there_is_refused(kind: Kind, name: str, body: object) -> None:
    """A backend that is not on the route of the model, or no such model or backend."""
    decided = decide([BACKEND, OTHER, MODEL], put(kind, name, body), NOW_MS)

    assert isinstance(decided, Refusal)
    assert decided.code is ErrorCode.REFERENCE_CONFLICT
    assert f"{kind}/{name}" in decided.detail


@pytest.mark.parametrize("entity_id", ["", "a b", "a\tb", "{a}", "x" * 129, "-a"])
def test_an_id_that_could_not_be_a_key_is_refused(entity_id: str) -> None:
    """Ids become parts of store keys and table fields."""
    decided = decide([], put("organization", entity_id, {}), NOW_MS)

    assert isinstance(decided, Refusal)
    assert decided.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"limit": {}}',
        b'{"limits": {"requests_per_s": 0}}',
        b'{"limits": {"budgets": [{"usd": "-1", "period": "day"}]}}',
        b'{"limits": {"budgets": [{"usd": 1.5, "period": "day"}]}}',
        b'{"name": "\\u001b[2J"}',
    ],
    ids=["no json", "unknown field", "zero rate", "negative money", "money as a float", "escape"],
)
def test_an_invalid_body_is_refused(body: bytes) -> None:
    """Nothing that does not validate becomes an entry."""
    edit = replacement("organization", body)

    assert isinstance(edit, Refusal)
    assert edit.code is ErrorCode.INVALID_REQUEST

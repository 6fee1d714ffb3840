"""What `config apply` would change, and what it refuses to begin."""

from __future__ import annotations

from typing import Any

from deploy.desired_state.plan import plan, problems_of
from deploy.desired_state.views import written_fields
from deploy.embedded.seed import Entity

BACKEND = {"id": "b", "version": 1, "url": "http://b/v1", "health": []}
MODEL = {"id": "m", "version": 2, "backends": [{"backend": "b"}]}
ORG = {"id": "acme", "version": 3, "name": "Acme", "limits": {}}
KEY = {"id": "k", "version": 4, "org": "acme", "display": "tg…", "created_at_ms": 1, "limits": {}}


def current(**kinds: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    empty = dict.fromkeys(("backends", "models", "orgs", "projects", "users", "keys"), ())
    return {k: {v["id"]: v for v in views} for k, views in {**empty, **kinds}.items()}


def signs(desired: list[Entity], now: Any, *, prune: bool = False) -> list[str]:
    return [f"{c.sign}{c.entity.kind}.{c.entity.id}" for c in plan(desired, now, prune=prune)]


def test_what_is_as_wanted_is_not_written() -> None:
    """A default that is not mentioned equals the default that is stored."""
    desired = [
        Entity("backends", "b", {"url": "http://b/v1"}),
        Entity("orgs", "acme", {"name": "Acme"}),
    ]

    assert signs(desired, current(backends=[BACKEND], orgs=[ORG])) == []


def test_a_changed_setting_is_shown_with_its_old_and_new_value() -> None:
    """Other settings are not listed."""
    desired = [Entity("models", "m", {"backends": [{"backend": "b"}], "input_usd_per_mtok": "1"})]

    (change,) = plan(desired, current(backends=[BACKEND], models=[MODEL]), prune=False)

    assert change.text().splitlines() == ["~ models.m", '    input_usd_per_mtok: null -> "1"']


def test_a_nested_setting_is_named_by_its_path() -> None:
    """One limit that changes is one line."""
    desired = [Entity("orgs", "acme", {"name": "Acme", "limits": {"burst": 3}})]

    (change,) = plan(desired, current(orgs=[ORG]), prune=False)

    assert change.fields == {"limits.burst": (None, 3)}


def test_pruning_deletes_last_and_only_of_the_kinds_that_are_mentioned() -> None:
    """A file about backends and models says nothing about organizations."""
    desired = [
        Entity("backends", "new", {"url": "http://n/v1"}),
        Entity("models", "other", {"backends": [{"backend": "new"}]}),
    ]
    now = current(backends=[BACKEND], models=[MODEL], orgs=[ORG])

    assert signs(desired, now, prune=True) == [
        "+backends.new", "+models.other", "-models.m", "-backends.b",
    ]  # fmt: skip


def test_without_pruning_nothing_is_deleted() -> None:
    """The default."""
    desired = [Entity("backends", "new", {"url": "http://n/v1"})]

    assert signs(desired, current(backends=[BACKEND])) == ["+backends.new"]


def test_a_deletion_that_leaves_a_reference_behind_is_a_problem() -> None:
    """It is found before the first write."""
    now = current(backends=[BACKEND], models=[MODEL])
    changes = plan([Entity("backends", "c", {"url": "http://c/v1"})], now, prune=True)

    assert [problem.path for problem in problems_of(changes, now)] == ["models.m"]


def test_what_exists_already_may_be_referred_to() -> None:
    """A file need not repeat what the gateway has."""
    now = current(backends=[BACKEND])
    changes = plan([Entity("models", "m", {"backends": [{"backend": "b"}]})], now, prune=False)

    assert problems_of(changes, now) == []


def test_a_key_that_does_not_exist_cannot_be_made_by_a_file() -> None:
    """Its secret could not be told to anybody."""
    changes = plan([Entity("keys", "k", {"name": "ci"})], current(), prune=False)

    assert [str(problem) for problem in problems_of(changes, current())] == [
        "keys.k: does not exist; `tallygate keys create` makes keys and prints their secret"
    ]


def test_a_key_that_exists_keeps_what_a_file_cannot_say() -> None:
    """Its organization is judged with its new project."""
    now = current(orgs=[ORG], keys=[KEY])
    changes = plan([Entity("keys", "k", {"project": "p"})], now, prune=False)

    assert [problem.path for problem in problems_of(changes, now)] == ["keys.k"]
    assert problems_of(plan([Entity("keys", "k", {"name": "ci"})], now, prune=False), now) == []


def _pin(**more: Any) -> dict[str, Any]:
    pin = {"kind": "pin", "id": "m", "backend": "b", "expires_at_ms": None, "reason": "night"}
    return pin | {"what": "only b", "by": "admin", "in_force": True} | more


def test_what_an_override_in_force_names_does_not_leave_its_route() -> None:
    """It is told before anything is written; one that ended is in nobody's way."""
    now = current(backends=[BACKEND, BACKEND | {"id": "c"}], models=[MODEL])
    changes = plan([Entity("models", "m", {"backends": [{"backend": "c"}]})], now, prune=False)

    assert [problem.path for problem in problems_of(changes, now, [_pin()])] == ["pin/m"]
    assert problems_of(changes, now, [_pin(in_force=False)]) == []


def test_an_override_is_no_difference_and_no_reason_to_keep_its_model() -> None:
    """A file says nothing about overrides; with a model they go."""
    now = current(backends=[BACKEND], models=[MODEL])
    same = plan([Entity("models", "m", {"backends": [{"backend": "b"}]})], now, prune=False)
    gone = plan([Entity("models", "x", {"backends": [{"backend": "b"}]})], now, prune=True)

    assert (same, problems_of(same, now, [_pin()])) == ([], [])
    assert [change.sign for change in gone] == ["+", "-"]
    assert problems_of(gone, now, [_pin()]) == []


def test_what_the_gateway_adds_to_a_view_is_no_setting() -> None:
    """What is written back, and judged as the configuration, is what somebody configured."""
    shown = BACKEND | {"drained": True}

    assert written_fields(shown) == {"url": "http://b/v1"}

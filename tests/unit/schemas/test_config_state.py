"""The configuration is a fold of its log: the newest valid entry of each entity, references checked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config_state import ConfigState, Problem, Snapshot, fold, parse_entity, pinned_price
from schemas.entities import Model, Target
from schemas.events import ConfigEntry, PinnedPrice

_HASH = "0123456789abcdef" * 4
_BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("organization", "acme"): {"name": "Acme"},
    ("organization", "zeta"): {},
    ("project", "search"): {"org": "acme"},
    ("user", "ada"): {"org": "acme"},
    ("key", "key_a"): {
        "org": "acme",
        "project": "search",
        "user": "ada",
        "hash": _HASH,
        "display": "tg_live_a…z",
        "created_at_ms": 0,
    },
    ("backend", "b1"): {"url": "http://127.0.0.1:1/v1"},
    ("model", "echo"): {"backends": [{"backend": "b1"}]},
}


def _entry(kind: str, name: str, body: dict[str, Any] | None, version: int = 1) -> ConfigEntry:
    text = None if body is None else json.dumps(body)
    return ConfigEntry(
        kind=kind, id=name, version=version, body=text, written_at_ms=0, written_by="admin"
    )


def _state(**changed: dict[str, Any] | None) -> ConfigState:
    """The whole example; ``key__key_a={...}`` replaces or deletes one body."""
    bodies: dict[tuple[str, str], dict[str, Any] | None] = dict(_BODIES)
    for name, body in changed.items():
        kind, _, entity = name.partition("__")
        bodies[kind, entity] = body
    entries = [_entry(kind, name, body) for (kind, name), body in bodies.items()]
    return fold(enumerate(entries))


def _in_force(snapshot: Snapshot) -> dict[str, Any]:
    return {
        name: dict(getattr(snapshot, name))
        for name in (
            "organizations",
            "projects",
            "users",
            "keys",
            "models",
            "backends",
            "prices",
            "key_id_by_hash",
            "versions",
        )
    } | {"problems": set(snapshot.problems)}


@given(st.permutations(list(_BODIES)), st.sets(st.sampled_from(sorted(_BODIES))))
def test_the_order_of_different_entities_does_not_matter(
    order: list[tuple[str, str]], deleted: set[tuple[str, str]]
) -> None:
    """Compaction may move an entity behind those that name it."""
    entries = [_entry(*who, None if who in deleted else _BODIES[who]) for who in order]
    in_given_order = fold(enumerate(entries)).snapshot()
    sorted_entries = sorted(entries, key=lambda entry: (entry.kind, entry.id))
    in_sorted_order = fold(enumerate(sorted_entries)).snapshot()

    assert _in_force(in_given_order) == _in_force(in_sorted_order)


def test_everything_valid_is_in_force() -> None:
    """And the offset is that of the last entry."""
    snapshot = _state().snapshot()

    assert snapshot.offset == len(_BODIES) - 1
    assert snapshot.problems == ()
    assert snapshot.key_id_by_hash == {_HASH: "key_a"}
    assert snapshot.versions["model", "echo"] == 1


def test_every_model_in_force_has_its_price_pinned() -> None:
    """Under the version of its entry; ``None`` where it has none."""
    priced = {"input_usd_per_mtok": "2", "output_usd_per_mtok": "6"} | _BODIES["model", "echo"]
    snapshot = _state(model__plain=_BODIES["model", "echo"], model__echo=priced).snapshot()
    price = snapshot.prices["echo"]

    assert set(snapshot.prices) == set(snapshot.models) == {"echo", "plain"}
    assert snapshot.prices["plain"] is None
    assert price is not None
    assert (price.version, price.output_nano_usd_per_mtok) == ("echo@1", 6_000_000_000)


@pytest.mark.parametrize(
    ("changed", "where", "what"),
    [
        ({"organization__acme": None}, "project/search", "organization 'acme' does not exist"),
        ({"organization__acme": None}, "user/ada", "organization 'acme' does not exist"),
        ({"organization__acme": None}, "key/key_a", "organization 'acme' does not exist"),
        ({"project__search": None}, "key/key_a", "project 'search' does not exist"),
        ({"project__search": {"org": "zeta"}}, "key/key_a", "project 'search' does not exist"),
        ({"user__ada": None}, "key/key_a", "user 'ada' does not exist"),
        ({"backend__b1": None}, "model/echo", "backends do not exist: ['b1']"),
        (
            {"model__echo": {"backends": [{"backend": "b1"}, {"backend": "b1"}]}},
            "model/echo",
            "backends named twice: ['b1']",
        ),
        ({"backend__b1": {"url": "ftp://x"}}, "backend/b1", "regex"),
        ({"organization__acme": {"nmae": "typo"}}, "organization/acme", "unknown field `nmae`"),
    ],
)
def test_what_is_wrong_is_out_of_force_and_reported(
    changed: dict[str, dict[str, Any] | None], where: str, what: str
) -> None:
    """The rest of the configuration stays in force."""
    snapshot = _state(**changed).snapshot()
    kind, _, name = where.partition("/")

    assert any(p.where == where and what in p.what for p in snapshot.problems)
    assert name not in getattr(snapshot, f"{kind}s")


@pytest.mark.parametrize(
    "changed",
    [
        {"project__search": None},
        {"user__ada": None},
        {"organization__acme": None},
        {"key__key_a": None},
    ],
    ids=["its project", "its user", "its organization", "itself"],
)
def test_a_key_that_is_not_in_force_is_not_found_by_its_secret(
    changed: dict[str, dict[str, Any] | None],
) -> None:
    """Whoever finds a key id by hash finds the key under it."""
    snapshot = _state(**changed).snapshot()

    assert snapshot.keys == {}
    assert snapshot.key_id_by_hash == {}


def test_an_invalid_entry_leaves_the_previous_one_in_force() -> None:
    """The refusal is reported until a valid entry comes."""
    state = _state()
    problem = state.apply(_entry("organization", "acme", {"limits": 5}, version=2), 10)
    refused = state.snapshot()
    state.apply(_entry("organization", "acme", {"name": "New"}, version=3), 11)

    assert problem is not None
    assert refused.problems == (problem,)
    assert refused.organizations["acme"].name == "Acme"
    assert (refused.offset, refused.versions["organization", "acme"]) == (10, 1)
    assert state.snapshot().problems == ()
    assert state.snapshot().organizations["acme"].name == "New"


def test_a_deleted_entity_keeps_its_version() -> None:
    """So that compare-and-set also guards its second creation."""
    state = _state()
    state.apply(_entry("organization", "zeta", None, version=2), 10)

    assert "zeta" not in state.snapshot().organizations
    assert state.snapshot().versions["organization", "zeta"] == 2


def test_a_snapshot_does_not_change_with_its_state() -> None:
    """Requests under way keep the configuration they began with."""
    state = _state()
    before = state.snapshot()
    state.apply(_entry("organization", "acme", None, version=2), 10)

    assert "acme" in before.organizations
    assert before.offset == len(_BODIES) - 1


@pytest.mark.parametrize(
    ("kind", "body", "what"),
    [
        ("planet", "{}", "unknown kind"),
        ("organization", "{", "truncated"),
        ("organization", '{"limits":{"requests_per_s":0}}', "> 0"),
        ("organization", '{"limits":{"budgets":[{"usd":"1.5"}]}}', "`period`"),
        ("organization", '{"limits":{"budgets":[{"usd":1.5,"period":"day"}]}}', "Expected `str`"),
        ("organization", '{"limits":{"budgets":[{"usd":"9999999","period":"day"}]}}', "outside"),
        ("model", '{"backends":[]}', "length"),
        ("model", '{"backends":[{"backend":"b"}],"input_usd_per_mtok":"1"}', "give both"),
        ("model", '{"backends":[{"backend":"b"}],"output_usd_per_mtok":"1"}', "give both"),
        ("key", '{"org":"a","hash":"x","display":"","created_at_ms":0}', "regex"),
        ("backend", '{"url":"http://user:secret@host"}', "regex"),
    ],
)
def test_a_body_with_a_mistake_says_which(kind: str, body: str, what: str) -> None:
    """A mistake is a value, not an exception."""
    problem = parse_entity(kind, body)

    assert isinstance(problem, Problem)
    assert what.lower() in problem.what.lower()


def test_a_price_is_pinned_by_the_version_of_its_entry() -> None:
    """Cached input costs what input costs unless it has a price of its own."""
    plain = Model(
        backends=(Target(backend="b1"),), input_usd_per_mtok="2", output_usd_per_mtok="0.000000001"
    )

    assert pinned_price("echo", plain, 4) == PinnedPrice(
        version="echo@4",
        input_nano_usd_per_mtok=2_000_000_000,
        cached_input_nano_usd_per_mtok=2_000_000_000,
        output_nano_usd_per_mtok=1,
    )
    assert pinned_price("echo", Model(backends=(Target(backend="b1"),)), 4) is None

"""The configuration is a fold of its log: the newest valid entry of each entity, references checked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config_references import Problem
from schemas.config_state import (
    ADOPTION,
    ConfigState,
    Snapshot,
    fold,
    parse_entity,
    prices_of,
)
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
    price = snapshot.prices["echo"].at(0)

    assert set(snapshot.prices) == set(snapshot.models) == {"echo", "plain"}
    assert snapshot.prices["plain"].at(0) is None
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


def test_an_entity_whose_newest_entry_cannot_be_read_is_closed() -> None:
    """Its earlier entry would be other limits than an administrator wrote. A valid one opens it."""
    state = _state()
    problem = state.apply(_entry("organization", "acme", {"limits": 5}, version=2), 10)
    closed = state.snapshot()
    state.apply(_entry("organization", "acme", {"name": "New"}, version=3), 11)
    open_again = state.snapshot()

    assert problem in closed.problems
    assert "acme" not in closed.organizations
    assert ("organization", "acme") in closed.closed
    assert (closed.offset, closed.versions["organization", "acme"]) == (10, 2)
    assert (open_again.problems, open_again.closed) == ((), frozenset())
    assert open_again.organizations["acme"].name == "New"


@pytest.mark.parametrize(
    ("kind", "name", "closed"),
    [
        ("organization", "acme", {("project", "search"), ("user", "ada"), ("key", "key_a")}),
        ("project", "search", {("key", "key_a")}),
        ("user", "ada", {("key", "key_a")}),
        ("key", "key_a", set()),
    ],
)
def test_what_belongs_to_something_closed_is_closed(
    kind: str, name: str, closed: set[tuple[str, str]]
) -> None:
    """And a key that is closed is told from one that does not exist."""
    state = _state()
    state.close((kind, name), "unknown schema", 10)
    snapshot = state.snapshot()

    assert snapshot.closed == closed | {(kind, name)}
    assert snapshot.keys == {}
    assert snapshot.key_id_by_hash == {}
    assert snapshot.closed_key_hashes == {_HASH}
    assert snapshot.closes("acme", "search", "key_a", "ada", "echo")
    assert not snapshot.closes("zeta", None, "key_z", None, "echo")


def test_a_closed_key_is_known_by_its_hash_though_the_rest_cannot_be_read() -> None:
    """After a restart no earlier entry is left."""
    state = fold([(0, _entry("key", "key_a", {"hash": _HASH, "colour": "red"}))])

    assert state.snapshot().closed_key_hashes == {_HASH}


def test_a_closed_backend_is_not_called_and_the_others_of_its_route_are() -> None:
    """One typo does not take a model away."""
    state = _state(
        backend__b2={"url": "http://127.0.0.1:2/v1"},
        model__echo={"backends": [{"backend": "b1"}, {"backend": "b2"}]},
    )
    state.apply(_entry("backend", "b1", {"url": "http://[::1/v1"}, version=2), 10)
    snapshot = state.snapshot()

    assert set(snapshot.backends) == {"b2"}
    assert set(snapshot.models) == {"echo"}
    assert snapshot.closed == {("backend", "b1")}


@pytest.mark.parametrize(
    ("kind", "name", "version"),
    [
        ("organization", "bad id", 1),
        ("organization", "acme\n", 1),
        ("planet", "earth", 1),
        ("organization", "acme", 2**53),
        ("organization", "new", 0),
        ("organization", "new", -1),
    ],
)
def test_an_entry_that_names_nothing_possible_is_refused(
    kind: str, name: str, version: int
) -> None:
    """The offset passes it all the same."""
    state = _state()

    assert state.apply(_entry(kind, name, {}, version), 10) is not None
    assert state.snapshot().offset == 10
    assert (kind, name) in state.snapshot().closed


def test_a_deleted_entity_is_not_closed() -> None:
    """Deleting is how an administrator gets rid of what cannot be read."""
    state = _state()
    state.close(("backend", "b1"), "unknown schema", 10)
    state.apply(_entry("backend", "b1", None, version=2), 11)

    assert state.snapshot().closed == frozenset()


@pytest.mark.parametrize(("body", "accepted"), [("7", 7), ("", -1), ("x", -1), ("\u0663", -1)])
def test_the_acceptance_of_a_shorter_log_is_no_entity(body: str, accepted: int) -> None:
    """Whoever reads it knows below which end an administrator accepts this log."""
    state = _state()
    entry = ConfigEntry(
        kind=ADOPTION[0], id=ADOPTION[1], version=1, body=body, written_at_ms=0, written_by="admin"
    )
    state.apply(entry, 10)

    assert state.accepted_below == accepted
    assert (state.snapshot().problems, state.snapshot().closed) == ((), frozenset())


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

    assert prices_of("echo", plain, 4).at(0) == PinnedPrice(
        version="echo@4",
        input_nano_usd_per_mtok=2_000_000_000,
        cached_input_nano_usd_per_mtok=2_000_000_000,
        output_nano_usd_per_mtok=1,
    )
    assert prices_of("echo", Model(backends=(Target(backend="b1"),)), 4).at(0) is None

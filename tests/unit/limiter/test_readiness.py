"""A request is admitted only where everything that bears its limits is known."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from limiter_worker.readiness import standing_of
from schemas.config_references import Problem
from schemas.config_state import Snapshot
from tests.support.events import accepted, configuration


def _config(**more: Any) -> Snapshot:
    fields = {name: getattr(configuration(), name) for name in Snapshot.__dataclass_fields__}
    return Snapshot(**(fields | more))


def test_what_is_whole_is_known() -> None:
    """Also at a later offset than the one ingress saw."""
    assert standing_of(accepted(), configuration()) == "known"
    assert (
        standing_of(accepted(project=None, user=None, config_offset=3), configuration()) == "known"
    )


def test_an_offset_that_is_not_here_is_waited_for() -> None:
    """Whatever it changed."""
    assert standing_of(accepted(config_offset=8), configuration()) == "not_yet"


@pytest.mark.parametrize("kind", ["organizations", "models", "keys", "projects", "users"])
def test_an_entity_that_was_never_read_is_waited_for(kind: str) -> None:
    """Its limits may be anything."""
    assert standing_of(accepted(), _config(**{kind: {}, "versions": {}})) == "not_yet"


@pytest.mark.parametrize(
    ("kind", "plural", "name", "standing"),
    [
        ("organization", "organizations", "acme", "gone"),
        ("model", "models", "echo", "gone"),
        ("key", "keys", "key_a", "revoked"),
        ("project", "projects", "search", "known"),
        ("user", "users", "ada", "known"),
    ],
)
def test_what_was_deleted_here_is_final(kind: str, plural: str, name: str, standing: str) -> None:
    """A project or user that is gone limits nothing any more."""
    config = _config(**{plural: {}, "versions": {(kind, name): 3}})

    assert standing_of(accepted(), config) == standing


@pytest.mark.parametrize(
    "who",
    [
        ("organization", "acme"),
        ("model", "echo"),
        ("key", "key_a"),
        ("project", "search"),
        ("user", "ada"),
    ],
)
def test_an_entity_whose_entry_was_refused_here_is_closed(who: tuple[str, str]) -> None:
    """Neither earlier limits nor none take their place."""
    assert standing_of(accepted(), _config(closed=frozenset({who}))) == "closed"
    assert standing_of(accepted(), _config(closed=frozenset({("backend", "b9")}))) == "known"


def test_a_key_that_hangs_on_something_missing_is_waited_for() -> None:
    """Its project may be on its way."""
    problems = (Problem("key/key_a", "project 'search' does not exist"),)
    config = _config(keys={}, versions={("key", "key_a"): 1}, problems=problems)

    assert standing_of(accepted(), config) == "not_yet"


def test_the_offset_counts_before_what_is_missing() -> None:
    """A model deleted here may be back at the offset that ingress saw."""
    config = _config(models={}, versions={("model", "echo"): 3})
    later = msgspec.structs.replace(accepted(), config_offset=9)

    assert standing_of(later, config) == "not_yet"


@pytest.mark.parametrize("key_id", ["oidc:corp", "user-org", "user-org:key-7"])
def test_who_is_vouched_for_needs_neither_key_nor_user_here(key_id: str) -> None:
    """Organization, project and model must be known all the same, and nothing may be closed."""
    request = accepted(key_id=key_id, user="sub:0a1b")
    bare = _config(keys={}, users={}, versions={})

    assert standing_of(request, bare) == "known"
    for plural in ("organizations", "projects", "models"):
        assert standing_of(request, _config(**{plural: {}, "versions": {}})) == "not_yet"
    closed = frozenset({("user", "sub:0a1b")})
    assert standing_of(request, _config(closed=closed)) == "closed"

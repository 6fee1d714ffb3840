"""Why a shard is rebuilt follows from its meta and from the log, and from nothing else."""

from __future__ import annotations

import pytest

from accounting.rebuild.causes import ShardMeta, cause_of

_WHOLE = {"epoch": "3", "ready": "1", "layout": "2", "complete": "1", "booked": "99"}
_OWN = "4:token"


@pytest.mark.parametrize(
    ("changed", "announced", "cause"),
    [
        ({}, 3, None),
        ({}, 0, None),
        ({"ready": "0"}, 3, "closed"),
        ({"ready": "0", "why": "restarted"}, 3, "restarted"),
        ({"ready": "0", "why": "another log", "complete": "0"}, 4, None),
        ({"layout": "1"}, 3, "layout"),
        ({"complete": "0"}, 3, "incomplete"),
        ({}, 4, "epoch"),
        ({"ready": "0", "building": "4:another"}, 3, "closed"),
        ({"epoch": "4", "ready": "0", "building": _OWN}, 4, None),
        ({"epoch": "4", "complete": "0", "building": _OWN}, 4, None),
        ({"epoch": "4", "building": _OWN}, 5, "epoch"),
        ({"epoch": "x", "booked": "y"}, 1, "epoch"),
    ],
)
def test_the_cause_of_a_rebuild(changed: dict[str, str], announced: int, cause: str | None) -> None:
    """A whole shard has none; each field that speaks against it is one."""
    assert cause_of(ShardMeta(_WHOLE | changed), announced, _OWN) == cause


def test_an_empty_store_is_rebuilt_whoever_built_it() -> None:
    """Also in the middle of a rebuild of our own, whose writes are gone."""
    assert cause_of(ShardMeta({}), 0, _OWN) == "empty"

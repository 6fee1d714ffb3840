"""Why a shard is rebuilt follows from its meta and from the log, and from nothing else."""

from __future__ import annotations

import pytest

from accounting.rebuild.causes import LogFacts, ShardMeta, cause_of

_WHOLE = {"epoch": "3", "ready": "1", "layout": "2", "complete": "1", "booked": "99"}
_OWN = "4:token"


@pytest.mark.parametrize(
    ("changed", "log", "cause"),
    [
        ({}, LogFacts(3, 100), None),
        ({}, LogFacts(), None),
        ({"ready": "0"}, LogFacts(3), "closed"),
        ({"ready": "0", "why": "restarted"}, LogFacts(3), "restarted"),
        ({"ready": "0", "why": "another log", "complete": "0"}, LogFacts(4), None),
        ({"layout": "1"}, LogFacts(3), "layout"),
        ({"complete": "0"}, LogFacts(3), "incomplete"),
        ({}, LogFacts(4), "epoch"),
        ({}, LogFacts(3, 101), "behind"),
        ({"ready": "0", "building": "4:another"}, LogFacts(3), "closed"),
        ({"epoch": "4", "ready": "0", "building": _OWN}, LogFacts(4), None),
        ({"epoch": "4", "complete": "0", "building": _OWN}, LogFacts(4), None),
        ({"epoch": "4", "building": _OWN}, LogFacts(5), "epoch"),
        ({"epoch": "x", "booked": "y"}, LogFacts(1), "epoch"),
    ],
)
def test_the_cause_of_a_rebuild(changed: dict[str, str], log: LogFacts, cause: str | None) -> None:
    """A whole shard has none; each field that speaks against it is one."""
    assert cause_of(ShardMeta(_WHOLE | changed), log, _OWN) == cause


def test_an_empty_store_is_rebuilt_whoever_built_it() -> None:
    """Also in the middle of a rebuild of our own, whose writes are gone."""
    assert cause_of(ShardMeta({}), LogFacts(), _OWN) == "empty"

"""A load: what it becomes as requests, as JSON for its driver, and which scenarios names mean."""

from __future__ import annotations

import zlib
from importlib import import_module
from inspect import iscoroutinefunction

import msgspec
import pytest

from deploy.bench.decision_times import durations_s
from deploy.bench.driving import DriverFailed, driven
from deploy.bench.goals import GOALS
from deploy.bench.load import Load, longest_s, prompt, requests_of
from deploy.bench.names import ALL, LONG, SCENARIOS, USUAL, chosen

_LOAD = Load(url="http://127.0.0.1:1/v1", keys=["a", "b", "c", "d"], model="bench")


def test_many_keys_take_turns() -> None:
    """One request of each, in their order."""
    sent = [request.data for request in requests_of(_LOAD)]

    assert [f"Bearer {key}".encode() in data for key, data in zip("abcd", sent, strict=True)] == [
        True
    ] * 4


def test_streams_are_spread_evenly_over_many_keys() -> None:
    """A quarter of four is one."""
    load = msgspec.structs.replace(_LOAD, stream_share=0.25)

    assert [request.is_stream for request in requests_of(load)] == [False, False, False, True]


def test_a_long_prompt_cannot_be_compressed_away() -> None:
    """Or a log would look smaller than it is."""
    text = prompt(10_000, seed=1)

    assert len(text) == pytest.approx(10_000, rel=0.01)
    assert len(zlib.compress(text.encode())) > 6_000


def test_a_load_and_its_deadline_survive_the_way_to_its_driver() -> None:
    """As JSON, which keys stand in and no command line."""
    assert msgspec.json.decode(msgspec.json.encode(_LOAD), type=Load) == _LOAD
    assert longest_s(_LOAD) > _LOAD.seconds + _LOAD.timeout_s


async def test_a_driver_that_fails_says_why() -> None:
    """And is gone."""
    load = msgspec.structs.replace(_LOAD, keys=[], seconds=0.1)

    with pytest.raises(DriverFailed, match="ended with code 1"):
        await driven(load)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_has_a_file_of_its_name(name: str) -> None:
    """With a coroutine that runs it."""
    assert iscoroutinefunction(import_module(f"deploy.bench.scenarios.{name}").run)


def test_every_goal_belongs_to_a_scenario() -> None:
    """Whose name it begins with."""
    assert {goal.partition(".")[0] for goal in GOALS} <= set(SCENARIOS)


def test_names_mean_scenarios_each_once() -> None:
    """None means the usual ones."""
    assert chosen([]) == USUAL
    assert set(chosen([ALL])) == set(SCENARIOS) - {*LONG}
    assert chosen(LONG) == LONG
    assert chosen(["open", "closed", "open"]) == ("open", "closed")
    with pytest.raises(ValueError, match="no scenario opne"):
        chosen(["opne"])


def test_decision_times_are_of_the_ledgers_functions_by_name() -> None:
    """Other commands of the store are not decisions."""
    noted = [
        {"command": b"FCALL tg1_admit 9 {0}|a", "duration": 90},
        {"command": b"fcall tg1_admit 9 {0}|a", "duration": 110},
        {"command": b"HGETALL x", "duration": 5_000},
    ]

    assert durations_s(noted) == {"tg1_admit": [0.00009, 0.00011]}

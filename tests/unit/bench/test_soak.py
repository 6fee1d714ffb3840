"""The verdict of a soak: of readings as values."""

from __future__ import annotations

import os

import pytest

from deploy.bench.bench import Unmeasurable
from deploy.bench.connection import OK
from deploy.bench.goals import GOALS
from deploy.bench.report import Sample
from deploy.bench.scenarios.soak import Reading, descriptors, judged, told_of_failures, watched


def readings(**grows: float) -> list[Reading]:
    """Half an hour; each kind grows by so much a second, from a usual size."""
    return [
        Reading(
            at_s=second,
            memory_mb={"ingress-0": 100 + grows.get("memory", 0) * second, "kafka": second},
            descriptors={"ingress-0": 50 + grows.get("descriptors", 0) * second},
            keys={"ledger": 20_000 + grows.get("keys", 0) * second, "bus": 500},
            lag={"workers": 5 + grows.get("lag", 0) * second},
        )
        for second in range(0, 1_800, 10)
    ]


def missed(seen: list[Reading]) -> set[str]:
    figures, _ = judged(seen)
    return {each.name for each in figures if not GOALS[each.name].is_met(each.value)}


def test_what_stands_still_meets_every_goal() -> None:
    """Whatever the broker's heap does."""
    assert missed(readings()) == set()


@pytest.mark.parametrize(
    ("kind", "a_second"), [("memory", 0.005), ("descriptors", 0.01), ("keys", 2), ("lag", 0.1)]
)
def test_what_grows_is_found_by_its_kind(kind: str, a_second: float) -> None:
    """18 MB, 36 files, 7 200 keys, 360 records an hour."""
    assert missed(readings(**{kind: a_second})) == {f"soak.{kind}"}


def test_what_grew_until_things_are_forgotten_is_no_growth() -> None:
    """Only the end is judged."""
    seen = readings(keys=20)
    flat = [
        Reading(r.at_s, r.memory_mb, r.descriptors, {"ledger": 40_000, "bus": 500}, r.lag)
        for r in seen[100:]
    ]

    assert missed(seen[:100] + flat) == set()


def test_every_value_that_was_read_is_told() -> None:
    """The broker's too."""
    _, notes = judged(readings())

    assert [note.partition(":")[0] for note in notes] == [
        *("ingress-0", "kafka", "ingress-0", "ledger", "bus", "workers")
    ]
    with pytest.raises(Unmeasurable, match="only 3 readings"):
        judged(readings()[:3])


def test_processes_are_those_of_the_gateway_and_what_it_stands_on() -> None:
    """Not the backend of the bench; and who is gone has no files."""
    pids = {"ingress-0": os.getpid(), "kafka": 2, "ledger-0": 3, "fake backend": 4}

    assert set(watched(pids)) == {"ingress-0", "kafka", "ledger-0"}
    assert descriptors({"me": os.getpid(), "gone": 2**30})["me"] > 0


def test_requests_that_failed_are_told_by_their_cause_and_time() -> None:
    """Whoever reads the verdict need not look for it in logs that are gone."""
    full = "server_is_overloaded: The log is behind."
    samples = [
        Sample(OK, 0.01, 1.0),
        Sample("http_503", 0.01, 812.05, cause=full),
        Sample("timeout", 30.0, 900.0),
        Sample("http_503", 0.01, 812.8, cause=full),
    ]

    assert told_of_failures(samples) == [
        f"2 x http_503 {full}; sent from 812.0 s to 812.8 s",
        "1 x timeout; sent from 900.0 s to 900.0 s",
    ]
    assert told_of_failures(samples[:1]) == []

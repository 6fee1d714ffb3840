"""The ack window: exactly the finished prefix, in order, never of an older generation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from schemas.runtime.consume.ack_window import AckWindow, Entry, Lane

_TP = TP("inference.requests.v1", 0)
_OTHER = TP("inference.requests.v1", 1)


@dataclass
class _Group:
    """A consumer group that rebalances when told."""

    number: int = 1
    committed_offsets: dict[TP, int] = field(default_factory=dict)

    def generation(self) -> int:
        return self.number

    def committed(self, partition: TP) -> int | None:
        return self.committed_offsets.get(partition)


@dataclass
class _Scene:
    """A window, and all that it did."""

    group: _Group = field(default_factory=_Group)
    acked: list[tuple[TP, int]] = field(default_factory=list)
    gaps: list[tuple[Lane, int, int]] = field(default_factory=list)
    window: AckWindow = field(init=False)

    def __post_init__(self) -> None:
        self.window = AckWindow(self.group, lambda *gap: self.gaps.append(gap))

    def deliver(self, offset: int, tp: TP = _TP, at_s: float = 0.0) -> Entry:
        """An event of the current generation arrives."""
        message = SimpleNamespace(tp=tp, offset=offset, generation_id=self.group.number)
        ack: Callable[[], None] = lambda: self.acked.append((tp, offset))  # noqa: E731
        return self.window.add(cast("Any", SimpleNamespace(message=message, ack=ack)), at_s)


@given(st.permutations(range(8)))
def test_after_each_finish_exactly_the_finished_prefix_is_acknowledged(order: list[int]) -> None:
    """For any order in which events finish."""
    scene = _Scene()
    entries = [scene.deliver(offset) for offset in range(8)]
    finished: set[int] = set()
    for index in order:
        scene.window.finish(entries[index])
        finished.add(index)
        prefix = next((i for i in range(8) if i not in finished), 8)

        assert scene.acked == [(_TP, offset) for offset in range(prefix)]
        assert scene.window.unfinished == 8 - prefix


@given(
    st.lists(st.one_of(st.just("deliver"), st.just("rebalance"), st.integers(0, 30)), max_size=60)
)
def test_no_older_generation_is_ever_acknowledged(steps: list[str | int]) -> None:
    """Whatever is delivered, finished and rebalanced in between; acks stay in order."""
    scene = _Scene()
    entries: list[Entry] = []
    for step in steps:
        acked_before = len(scene.acked)
        if step == "deliver":
            entries.append(scene.deliver(offset=len(entries)))
        elif step == "rebalance":
            scene.group.number += 1
            scene.window.forget_older()
            assert scene.window.unfinished == 0
        elif entries:
            scene.window.finish(entries[int(step) % len(entries)])
        current = {
            entry.event.message.offset
            for entry in entries
            if entry.event.message.generation_id == scene.group.number
        }
        newly_acked = scene.acked[acked_before:]
        assert {offset for _, offset in newly_acked} <= current
    assert scene.acked == sorted(set(scene.acked))


def test_partitions_do_not_wait_for_each_other() -> None:
    """Each has a prefix of its own."""
    scene = _Scene()
    scene.deliver(0)
    scene.window.finish(scene.deliver(0, _OTHER))

    assert scene.acked == [(_OTHER, 0)]


def test_an_event_finished_after_a_rebalance_is_left_to_the_new_owner() -> None:
    """Even before the old lanes were forgotten."""
    scene = _Scene()
    entry = scene.deliver(0)
    scene.group.number += 1
    scene.window.finish(entry)

    assert scene.acked == []


@pytest.mark.parametrize(
    ("committed", "offsets", "gaps"),
    [
        ({}, [5, 6, 7], []),
        ({_TP: 5}, [5, 6], []),
        ({_TP: 3}, [5], [(3, 5)]),
        ({}, [5, 8], [(6, 8)]),
        ({_TP: 9}, [5, 6], []),
    ],
    ids=["unknown start", "as committed", "skipped at the start", "skipped later", "read again"],
)
def test_skipped_offsets_are_reported(
    committed: dict[TP, int], offsets: list[int], gaps: list[tuple[int, int]]
) -> None:
    """A skipped event would otherwise be committed past."""
    scene = _Scene(group=_Group(committed_offsets=committed))
    for offset in offsets:
        scene.deliver(offset)

    assert scene.gaps == [((_TP, 1), expected, got) for expected, got in gaps]


def test_the_oldest_unfinished_event_has_an_age() -> None:
    """Which the watchdog watches; finished ones have none."""
    scene = _Scene()
    first = scene.deliver(0, at_s=10)
    scene.deliver(1, at_s=14)
    before = scene.window.oldest_age_s(20)
    scene.window.finish(first)

    assert (before, scene.window.oldest_age_s(20)) == (10, 6)
    assert _Scene().window.oldest_age_s(20) == 0

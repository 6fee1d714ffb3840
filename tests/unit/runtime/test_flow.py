"""Which partitions are read: one at a bound is paused alone, and read again at half of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from schemas.runtime.kafka.consume.ack_window import AckWindow, Partition
from schemas.runtime.kafka.consume.flow import Bounds, Flow

_ONE: Partition = ("inference.dispatch.v1", 0)
_OTHER: Partition = ("inference.dispatch.v1", 1)
_MIB = 1024 * 1024


class _Group:
    def generation(self) -> int:
        return 1


@dataclass
class _Scene:
    bounds: Bounds
    said: list[tuple[str, Partition]] = field(default_factory=list)
    flow: Flow = field(init=False)
    window: AckWindow = field(init=False)

    def __post_init__(self) -> None:
        self.window = AckWindow(_Group(), lambda *_: None, lambda *_: None)
        self.flow = Flow(self.window, self.bounds, self)

    def pause(self, partition: Partition) -> None:
        self.said.append(("pause", partition))

    def resume(self, partition: Partition) -> None:
        self.said.append(("resume", partition))

    def deliver(self, offset: int, size: int = 1, partition: Partition = _ONE) -> None:
        self.window.add(partition, 1, offset, size, 0.0, 0)
        self.flow.after_delivery(partition)

    def finish(self, offset: int, size: int = 1, partition: Partition = _ONE) -> None:
        self.window.finish(partition, 1, offset, size)
        self.flow.after_finish()


def test_a_partition_takes_a_fourth_of_the_records_and_is_paused_alone() -> None:
    """And it is read again once half of those are left."""
    scene = _Scene(Bounds(records_max=16))
    for offset in range(4):
        scene.deliver(offset)
    assert scene.said == [("pause", _ONE)]
    assert scene.flow.paused == {_ONE: "4 records under way"}

    scene.deliver(0, partition=_OTHER)
    scene.finish(1)
    scene.finish(2)
    assert scene.said == [("pause", _ONE)]
    scene.finish(3)
    assert scene.said == [("pause", _ONE), ("resume", _ONE)]
    assert scene.flow.paused == {}


def test_the_share_of_a_partition_is_stated_and_holds_at_the_half_too() -> None:
    """Where partitions wait each for a thing of its own, the others need room beside them."""
    bounds = Bounds(records_max=16, partition_share=16)
    scene = _Scene(bounds)
    scene.deliver(0)

    assert scene.said == [("pause", _ONE)]
    assert bounds.half() == Bounds(
        records_max=8, bytes_max=64 * _MIB, span_max=100_000, partition_share=16
    )


def test_bytes_count_as_records_do() -> None:
    """One large record is enough."""
    scene = _Scene(Bounds(bytes_max=256 * _MIB))
    scene.deliver(0, 64 * _MIB)

    assert scene.flow.paused == {_ONE: "64 MiB under way"}


def test_what_is_finished_behind_a_slow_record_bounds_nothing_but_the_span() -> None:
    """A long call lets a partition run far ahead, and no further than stated."""
    scene = _Scene(Bounds(records_max=16, span_max=1_000))
    scene.deliver(0)
    for offset in range(1, 999):
        scene.deliver(offset)
        scene.finish(offset)
    assert scene.said == []

    scene.deliver(999)
    scene.finish(999)
    assert scene.flow.paused == {_ONE: "1000 offsets ahead of an unfinished record"}
    assert scene.flow.excused() == set()
    scene.finish(0)
    assert scene.said[-1] == ("resume", _ONE)


def test_all_partitions_together_have_a_bound() -> None:
    """Each that still delivers is paused then."""
    scene = _Scene(Bounds(records_max=16))
    for number in range(5):
        for offset in range(3):
            scene.deliver(offset, partition=("inference.dispatch.v1", number))
    assert scene.said == []
    scene.deliver(0, partition=("inference.dispatch.v1", 6))

    assert scene.flow.paused == {
        ("inference.dispatch.v1", 6): "16 records under way in all partitions"
    }
    assert scene.flow.excused() == {("inference.dispatch.v1", 6)}


@pytest.mark.parametrize("records_max", [1, 2, 3])
def test_the_smallest_bounds_still_let_one_record_through(records_max: int) -> None:
    """Nothing stands still for ever."""
    scene = _Scene(Bounds(records_max=records_max))
    scene.deliver(0)
    scene.finish(0)

    assert scene.flow.paused == {}

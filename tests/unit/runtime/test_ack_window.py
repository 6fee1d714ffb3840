"""The ack window: exactly the finished prefix and what lies beyond it, never of an older generation."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.runtime.kafka.consume.ack_window import AckWindow, Load, Partition
from schemas.runtime.kafka.consume.offsets import Mark, Run

_ONE: Partition = ("inference.requests.v1", 0)
_OTHER: Partition = ("inference.requests.v1", 1)
_SIZE = 100


@dataclass
class _Group:
    """A consumer group that rebalances when told."""

    number: int = 1

    def generation(self) -> int:
        return self.number


@dataclass
class _Scene:
    """A window, and all that it told."""

    group: _Group = field(default_factory=_Group)
    gaps: list[tuple[Partition, int, int]] = field(default_factory=list)
    late_starts: list[tuple[Partition, int, int]] = field(default_factory=list)
    window: AckWindow = field(init=False)

    def __post_init__(self) -> None:
        self.window = AckWindow(
            self.group,
            lambda *gap: self.gaps.append(gap),
            lambda *start: self.late_starts.append(start),
        )

    def deliver(self, offset: int, partition: Partition = _ONE, at_s: float = 0.0) -> bool:
        return self.window.add(partition, self.group.number, offset, _SIZE, at_s, offset)

    def finish(self, offset: int, partition: Partition = _ONE, generation: int = 0) -> None:
        self.window.finish(partition, generation or self.group.number, offset, _SIZE)

    def commit(self) -> dict[Partition, tuple[int, list[Run]]]:
        """What a commit would hold, by partition."""
        positions = self.window.to_commit()
        self.window.note_committed(self.window.versions())
        return {p: (at.offset, list(at.runs)) for p, at in positions.items()}


@given(st.permutations(range(8)))
def test_after_each_finish_exactly_what_is_finished_is_committed(order: list[int]) -> None:
    """For any order in which records finish: the prefix, and every offset beyond it."""
    scene = _Scene()
    assert all(scene.deliver(offset) for offset in range(8))
    finished: set[int] = set()
    for offset in order:
        scene.finish(offset)
        finished.add(offset)
        prefix = next((i for i in range(8) if i not in finished), 8)

        ((position, beyond),) = scene.commit().values()
        assert position == prefix
        assert {i for start, end in beyond for i in range(start, end)} == {
            i for i in finished if i > prefix
        }
        assert scene.window.records == 8 - len(finished)
        assert scene.window.size_bytes == _SIZE * (8 - len(finished))


@given(
    st.lists(st.one_of(st.just("deliver"), st.just("rebalance"), st.integers(0, 30)), max_size=60)
)
def test_nothing_that_was_not_finished_is_ever_committed(steps: list[str | int]) -> None:
    """Whatever is delivered, finished and rebalanced in between, and committed after each step."""
    scene = _Scene()
    begin = committed = 0
    delivered: list[tuple[int, int]] = []
    finished: set[tuple[int, int]] = set()
    for step in steps:
        if step == "deliver":
            offset = (
                max((o for g, o in delivered if g == scene.group.number), default=begin - 1) + 1
            )
            if scene.deliver(offset):
                delivered.append((scene.group.number, offset))
        elif step == "rebalance":
            begin = committed
            scene.group.number += 1
            scene.window.forget_older()
            scene.window.remember(_ONE, Mark(committed))
            assert scene.window.records == 0
        elif delivered:
            generation, offset = delivered[int(step) % len(delivered)]
            scene.finish(offset, generation=generation)
            finished.add((generation, offset))
        for position, beyond in scene.commit().values():
            assert position >= committed
            now = {o for g, o in finished if g == scene.group.number}
            assert set(range(begin, position)) <= now
            assert {i for start, end in beyond for i in range(start, end)} <= now
            committed = position


def test_partitions_do_not_wait_for_each_other() -> None:
    """Each has a prefix of its own."""
    scene = _Scene()
    scene.deliver(0)
    scene.deliver(0, _OTHER)
    scene.finish(0, _OTHER)

    assert scene.commit() == {_OTHER: (1, [])}


def test_what_did_not_change_is_not_committed_again() -> None:
    """A quiet partition costs nothing."""
    scene = _Scene()
    scene.deliver(0)
    scene.finish(0)

    assert scene.commit() == {_ONE: (1, [])}
    assert scene.commit() == {}


def test_a_record_finished_after_a_rebalance_is_left_to_the_new_owner() -> None:
    """Even before the old lanes were forgotten."""
    scene = _Scene()
    scene.deliver(0)
    scene.group.number += 1
    scene.finish(0, generation=1)

    assert scene.commit() == {}


def test_a_record_that_a_rebalance_overtook_belongs_to_its_own_generation() -> None:
    """The new one begins where the group is, as if it had never been delivered."""
    scene = _Scene()
    scene.group.number = 2
    scene.window.add(_ONE, 1, 7, _SIZE, 0.0, 0)
    scene.window.forget_older()
    scene.window.remember(_ONE, Mark(5))

    assert scene.deliver(5)
    assert scene.late_starts == []


def test_finished_records_beyond_the_commit_are_not_handed_out_again() -> None:
    """The head alone is, and once it is finished the prefix jumps over all of them."""
    scene = _Scene()
    scene.window.remember(_ONE, Mark(5, ((6, 9), (10, 11))))

    assert [scene.deliver(offset) for offset in range(5, 12)] == [
        True, False, False, False, True, False, True,
    ]  # fmt: skip
    scene.finish(5)
    assert scene.commit() == {_ONE: (9, [(10, 11)])}
    scene.finish(9)
    assert scene.commit() == {_ONE: (11, [])}


def test_what_is_read_again_below_the_mark_is_not_handed_out() -> None:
    """A replay has no effect, and the next commit is not lower than the last."""
    scene = _Scene()
    scene.window.remember(_ONE, Mark(5, ((6, 9),)))

    handed_out = [offset for offset in range(12) if scene.deliver(offset)]
    scene.finish(5)

    assert handed_out == [5, 9, 10, 11]
    assert scene.commit() == {_ONE: (9, [])}


def test_a_lane_that_stands_still_takes_nothing_more_and_commits_what_came_before() -> None:
    """The record at which it does is for whoever can read it; a generation later it is tried again."""
    scene = _Scene()
    for offset in range(3):
        scene.deliver(offset)
    scene.finish(0)
    scene.window.block(_ONE, 1, 1, _SIZE)

    assert scene.deliver(3) is False
    assert scene.deliver(0, _OTHER)
    scene.finish(2)
    assert scene.commit() == {_ONE: (1, [(2, 3)])}
    assert scene.window.load_of(_ONE).records == 0
    scene.group.number = 2
    scene.window.forget_older()
    assert scene.deliver(1)


def test_a_mark_knows_the_newest_append_time_that_was_delivered() -> None:
    """Also that of an earlier owner: it tells this log from another."""
    scene = _Scene()
    scene.window.remember(_ONE, Mark(1, (), 500))
    for offset, appended_ms in ((1, 400), (2, 700), (3, 600)):
        scene.window.add(_ONE, 1, offset, _SIZE, 0.0, appended_ms)
        scene.finish(offset)
        if offset == 1:
            assert scene.window.to_commit()[_ONE].newest_ms == 500

    assert scene.window.to_commit()[_ONE].newest_ms == 700


def test_what_is_delivered_twice_in_a_generation_is_handed_out_once() -> None:
    """The first delivery is still under way, and finishes it."""
    scene = _Scene()

    assert [scene.deliver(0), scene.deliver(1), scene.deliver(0)] == [True, True, False]


@pytest.mark.parametrize(
    ("committed", "offsets", "late_starts", "gaps"),
    [
        (None, [5, 6, 7], [], []),
        (5, [5, 6], [], []),
        (3, [5], [(3, 5)], []),
        (None, [5, 8], [], [(6, 8)]),
        (9, [5, 6], [], []),
    ],
    ids=["unknown start", "as committed", "skipped at the start", "skipped later", "read again"],
)
def test_skipped_offsets_are_reported(
    committed: int | None,
    offsets: list[int],
    late_starts: list[tuple[int, int]],
    gaps: list[tuple[int, int]],
) -> None:
    """A skipped record would otherwise be committed past."""
    scene = _Scene()
    if committed is not None:
        scene.window.remember(_ONE, Mark(committed))
    for offset in offsets:
        scene.deliver(offset)

    assert scene.gaps == [(_ONE, expected, got) for expected, got in gaps]
    assert scene.late_starts == [(_ONE, expected, got) for expected, got in late_starts]


def test_a_hundred_thousand_finished_records_behind_a_slow_one_are_one_run() -> None:
    """An offset and no more."""
    scene = _Scene()
    for offset in range(100_000):
        scene.deliver(offset)
        if offset:
            scene.finish(offset)

    assert scene.window.load_of(_ONE) == Load(records=1, size_bytes=_SIZE, span=100_000)
    assert scene.commit() == {_ONE: (0, [(1, 100_000)])}


def test_a_dropped_record_stays_unfinished() -> None:
    """It takes no room here any more, and its next owner reads it."""
    scene = _Scene()
    scene.deliver(0)
    scene.deliver(1)
    scene.window.drop(_ONE, 1, 0, _SIZE)
    scene.finish(1)

    assert scene.window.records == 0
    assert scene.commit() == {_ONE: (0, [(1, 2)])}


def test_the_oldest_record_under_way_has_an_age() -> None:
    """Which the watchdog watches; finished ones have none, nor have excused partitions."""
    scene = _Scene()
    scene.deliver(0, at_s=10)
    scene.deliver(1, at_s=14)
    before = scene.window.oldest_age_s(20)
    scene.finish(0)

    assert (before, scene.window.oldest_age_s(20)) == (10, 6)
    assert scene.window.oldest_age_s(20, {_ONE}) == 0
    assert _Scene().window.oldest_age_s(20) == 0


def test_who_rests_counts_as_no_older_than_when_it_was_looked_at() -> None:
    """A flex request may wait for a day: neither is its process stuck, nor does its topic lag. Its offset stays."""
    scene = _Scene()
    scene.deliver(0, at_s=0.0)
    scene.deliver(1, at_s=50.0)
    scene.window.rest(_ONE, 1, 0, 90.0, 7_000)

    assert scene.window.oldest_age_s(100.0) == 50.0
    scene.finish(1)
    assert scene.window.oldest_age_s(100.0) == 10.0
    assert scene.window.oldest_appended_ms(_ONE) == 7_000
    assert scene.window.load_of(_ONE) == Load(records=1, size_bytes=_SIZE, span=2)
    scene.finish(0)
    scene.window.rest(_ONE, 1, 0, 95.0, 8_000)
    assert scene.window.oldest_age_s(100.0) == 0.0

"""How far a worker is behind the log."""

from __future__ import annotations

from schemas.runtime.kafka.consume.ack_window import AckWindow
from schemas.runtime.kafka.consume.lag import Lag, lag_of
from schemas.runtime.kafka.consume.offsets import Mark

_NOW_MS = 1_000_000
_A, _B = ("t", 0), ("t", 1)


class _Group:
    def generation(self) -> int:
        return 1


def _window() -> AckWindow:
    def never(*_: object) -> None:
        raise AssertionError

    return AckWindow(_Group(), never, never)


def _add(window: AckWindow, partition: tuple[str, int], offset: int, age_s: int) -> None:
    window.add(partition, 1, offset, 10, 0.0, _NOW_MS - 1_000 * age_s)


def test_who_has_ended_everything_is_not_behind() -> None:
    """However long ago that was."""
    window = _window()
    _add(window, _A, 0, 500)
    window.finish(_A, 1, 0, 10)

    assert lag_of(window, {_A: 0}, _NOW_MS) == Lag(0, 0)


def test_the_oldest_record_under_way_is_the_age() -> None:
    """Of all partitions, by when it was appended; one that was finished out of order does not count."""
    window = _window()
    for offset, age_s in enumerate((40, 30, 5)):
        _add(window, _A, offset, age_s)
    _add(window, _B, 0, 20)
    window.finish(_A, 1, 0, 10)

    assert lag_of(window, {_A: 0, _B: 0}, _NOW_MS) == Lag(3, 30)


def test_what_was_not_read_yet_is_as_old_as_the_newest_that_was_at_most() -> None:
    """Nobody asks a broker for it."""
    window = _window()
    _add(window, _A, 0, 12)
    window.finish(_A, 1, 0, 10)

    assert lag_of(window, {_A: 7}, _NOW_MS) == Lag(7, 12)


def test_after_a_restart_the_commit_says_how_old_the_rest_is_at_most() -> None:
    """Before the first record is delivered."""
    window = _window()
    window.remember(_A, Mark(3, (), _NOW_MS - 60_000))

    assert lag_of(window, {_A: 2}, _NOW_MS) == Lag(2, 60)


def test_of_what_was_never_read_only_the_number_is_known() -> None:
    assert lag_of(_window(), {_A: 9}, _NOW_MS) == Lag(9, 0)


def test_partitions_of_others_are_theirs_to_tell() -> None:
    window = _window()
    _add(window, _B, 0, 99)

    assert lag_of(window, {_A: 0}, _NOW_MS) == Lag(0, 0)

"""The adaptive limit: what makes it shrink and grow, and what must not."""

from __future__ import annotations

import pytest

from dispatcher.backends.adaptive_limit import LIMIT_MIN, AdaptiveLimit

_CEILING = 256


class _Backend:
    """One model at a backend whose calls take what the test says."""

    def __init__(self) -> None:
        self.limit = AdaptiveLimit()
        self.now_s = 1_000.0
        self.limit.look(self.now_s, 0, _CEILING)

    @property
    def slots(self) -> int:
        return self.limit.slots(_CEILING)

    def second(
        self, *times_s: float, busy: int | None = None, failures: int = 0, streams: bool = False
    ) -> None:
        """One window: all slots (or so many) were busy, and first bytes came after these times."""
        self.limit.began(self.slots if busy is None else busy)
        for took_s in times_s:
            self.limit.answered(took_s, streams=streams)
        for _ in range(failures):
            self.limit.failed()
        self.now_s += 1.0
        self.limit.look(self.now_s, 0, _CEILING)


def test_it_begins_with_what_configuration_allows() -> None:
    """A healthy backend is used whole from the first second on."""
    assert _Backend().slots == _CEILING


def test_it_shrinks_while_first_bytes_come_ever_later() -> None:
    """A backend that queues inside answers later the more calls it has."""
    backend = _Backend()
    backend.second(*[0.5] * 20)
    for _ in range(10):
        backend.second(*[5.0] * 20)

    assert LIMIT_MIN <= backend.slots < 8


def test_it_finds_the_slots_of_a_backend_that_queues() -> None:
    """Eight calls of a second at once: the others wait inside, and the limit comes down to near that."""
    backend = _Backend()
    backend.second(*[1.0] * 20, busy=8)
    for _ in range(60):
        backend.second(*[max(1.0, backend.slots / 8)] * 20)

    assert 8 <= backend.slots <= 24


def test_it_grows_again_by_its_root() -> None:
    """Soon, but not at once."""
    backend = _Backend()
    backend.second(*[0.5] * 20)
    for _ in range(10):
        backend.second(*[5.0] * 20)
    low = backend.slots
    for _ in range(40):
        backend.second(*[0.5] * 20)

    assert low < 8
    assert backend.slots == _CEILING


def test_slow_and_steady_keeps_all_its_slots() -> None:
    """Thirty seconds to the first byte, always: that is how it is."""
    backend = _Backend()
    for _ in range(50):
        backend.second(*[30.0] * 20)

    assert backend.slots == _CEILING


def test_long_prompts_beside_short_ones_are_no_congestion() -> None:
    """The spread of single calls says nothing; nine in ten stay where they were."""
    backend = _Backend()
    for _ in range(50):
        backend.second(*[0.1, 0.2, 0.5, 1.0, 4.0] * 5)

    assert backend.slots == _CEILING


def test_whole_answers_are_not_compared_with_streams() -> None:
    """Their first byte comes with the last."""
    backend = _Backend()
    for turn in range(50):
        streams = turn % 2 == 0
        backend.second(*[0.2 if streams else 20.0] * 20, streams=streams)

    assert backend.slots == _CEILING


def test_differences_of_a_few_milliseconds_are_noise() -> None:
    """A loop that is late for a moment must not cost a quick backend its slots."""
    backend = _Backend()
    for turn in range(50):
        backend.second(*[0.005 if turn % 2 else 0.15] * 20)

    assert backend.slots == _CEILING


def test_a_limit_that_is_not_half_used_does_not_shrink() -> None:
    """Then it is not the number of calls that makes them slow."""
    backend = _Backend()
    backend.second(*[0.5] * 20)
    for _ in range(10):
        backend.second(*[5.0] * 20, busy=100)

    assert backend.slots == _CEILING


def test_failures_shrink_it() -> None:
    """Also those of calls that are still under way and silent."""
    backend = _Backend()
    for _ in range(10):
        backend.second(failures=20)

    assert backend.slots <= 8


def test_one_that_is_slower_for_good_is_measured_anew() -> None:
    """After five minutes its best time of then is believed in no longer."""
    backend = _Backend()
    backend.second(*[0.5] * 20)
    for _ in range(320):
        backend.second(*[5.0] * 20)
    for _ in range(40):
        backend.second(*[5.0] * 20)

    assert backend.slots == _CEILING


@pytest.mark.parametrize(("calls", "usual_s"), [(0, None), (1, 2.0), (20, 2.0)])
def test_what_is_usual_is_known_from_the_first_answer_on(calls: int, usual_s: float | None) -> None:
    """Before that nothing is."""
    backend = _Backend()
    backend.second(*[2.0] * calls)

    assert backend.limit.usual_s(streams=False) == usual_s
    assert backend.limit.usual_s(streams=True) is None

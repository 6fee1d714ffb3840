"""A range means what whoever typed it meant, or it is refused with a sentence."""

from __future__ import annotations

import pytest

from deploy.replay.ranges import Bounds, Range, RangeError, Stretch, parse_range, stretch_of

NOW_MS = 1_764_200_000_000
HOUR_MS = 3_600_000
LOG = Bounds(begin=100, end=1_000)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("@-48h:-24h", Range(NOW_MS - 48 * HOUR_MS, NOW_MS - 24 * HOUR_MS)),
        ("@-90s:", Range(from_ms=NOW_MS - 90_000)),
        ("@:-1d", Range(to_ms=NOW_MS - 24 * HOUR_MS)),
        ("@1764100000000:1764100000001", Range(1_764_100_000_000, 1_764_100_000_001)),
        (
            "@2025-11-25T20:00:00Z:2025-11-25T21:00:00+01:00",
            Range(1_764_100_800_000, 1_764_100_800_000 + 0),
        ),
        ("@2025-11-25:", Range(from_ms=1_764_028_800_000)),
        ("100:200", Range(begin=100, end=200)),
        (":200", Range(end=200)),
        ("100:", Range(begin=100)),
        (":", Range()),
        ("3/100:200", Range(partitions={3: (100, 200)})),
    ],
)
def test_what_is_typed_is_understood(text: str, wanted: Range) -> None:
    """Times have colons of their own, so the one between two times is found."""
    if "+01:00" in text:  # Both are the same instant.
        with pytest.raises(RangeError, match="is empty"):
            parse_range([text], NOW_MS)
    else:
        assert parse_range([text], NOW_MS) == wanted


def test_nothing_said_is_all() -> None:
    """And several partitions may each have their own."""
    assert parse_range([], NOW_MS).is_all
    assert parse_range(["0/1:2", "4/:9"], NOW_MS).partitions == {0: (1, 2), 4: (None, 9)}


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["200:100"], "is empty"),
        (["7:7"], "is empty"),
        (["1-5"], "no range"),
        (["x:y"], "no range"),
        (["-5:9"], "no range"),
        (["@-24h:-48h"], "is empty"),
        (["@yesterday:"], "no range of times"),
        (["@-24h"], "no range of times"),
        (["@2099-01-01:"], "yet to come"),
        (["@-2h:", "1:2"], "stands alone"),
        (["1:2", "3:4"], "stands alone"),
        (["3/1:2", "3/5:6"], "two ranges"),
        (["99999999999999999999:"], "no range"),
    ],
)
def test_what_chooses_nothing_is_refused_in_words(texts: list[str], why: str) -> None:
    """Each says what is wrong with what was typed."""
    with pytest.raises(RangeError, match=why):
        parse_range(texts, NOW_MS)


def test_a_range_is_cut_to_what_the_log_has_and_says_so() -> None:
    """What retention took, and what is still to come, is told by its offsets."""
    assert stretch_of(Range(begin=0, end=200), 2, LOG) == Stretch(
        2, 100, 200, notes=("retention has taken offsets 0 to 99",)
    )
    assert stretch_of(Range(begin=900, end=1_200), 2, LOG) == Stretch(
        2, 900, 1_000, notes=("it ends at 1000, so 200 offsets are still to come",)
    )
    beyond = stretch_of(Range(begin=5_000), 2, LOG)
    assert (beyond.records, beyond.notes) == (0, ("it ends at 1000, before 5000",))


def test_times_come_to_the_first_records_that_were_appended_then() -> None:
    """A time that nothing was appended after is the end."""
    at = Bounds(100, 1_000, at_from=300, at_to=400)

    assert stretch_of(Range(1, 2), 0, at) == Stretch(0, 300, 400)
    assert stretch_of(Range(from_ms=1), 0, Bounds(100, 1_000, None, None)).records == 0
    assert stretch_of(Range(to_ms=2), 0, at) == Stretch(0, 100, 400)


def test_only_a_log_that_lost_nothing_is_read_whole() -> None:
    """Then the sums of all time have to be equal."""
    assert stretch_of(Range(), 0, Bounds(0, 10)).is_whole_log
    assert not stretch_of(Range(), 0, Bounds(1, 10)).is_whole_log
    assert not stretch_of(Range(end=9), 0, Bounds(0, 10)).is_whole_log

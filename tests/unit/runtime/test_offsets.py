"""Runs of finished offsets merge; a mark survives the trip through commit metadata."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.runtime.kafka.consume.offsets import (
    METADATA_BYTES_MAX,
    Mark,
    OffsetRuns,
    Run,
    decode_mark,
    encode_mark,
    further,
)


def _runs_of(offsets: set[int]) -> list[Run]:
    runs: list[Run] = []
    for offset in sorted(offsets):
        if runs and runs[-1][1] == offset:
            runs[-1] = runs[-1][0], offset + 1
        else:
            runs.append((offset, offset + 1))
    return runs


@given(st.lists(st.integers(0, 60), unique=True))
def test_neighbours_merge_in_any_order(offsets: list[int]) -> None:
    """There are as many runs as there must be."""
    runs = OffsetRuns()
    for offset in offsets:
        runs.add(offset, offset + 1)

    assert runs.in_order() == _runs_of(set(offsets))
    for start, end in _runs_of(set(offsets)):
        assert runs.take_from(start) == end
    assert len(runs) == 0
    assert runs.take_from(7) == 7


@given(st.integers(0, 2**62), st.sets(st.integers(1, 5_000), max_size=400), st.integers(0, 10**15))
def test_what_is_encoded_is_decoded(base: int, beyond: set[int], newest_ms: int) -> None:
    """Whatever the base; a few hundred runs always fit."""
    mark = Mark(base, tuple(_runs_of({base + offset for offset in beyond})), newest_ms)
    metadata = encode_mark(mark)

    assert decode_mark(base, metadata) == mark
    assert len(metadata.encode()) <= METADATA_BYTES_MAX


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), max_size=3_000))
def test_what_does_not_fit_is_left_out_from_the_end(steps: list[tuple[int, int]]) -> None:
    """The broker's limit holds, and what is remembered was finished."""
    runs, at = [], 0
    for gap, length in steps:
        runs.append((at + gap, at + gap + length))
        at += gap + length
    metadata = encode_mark(Mark(0, tuple(runs), 10**18 - 1))

    kept = decode_mark(0, metadata)
    assert kept is not None
    assert kept.runs == tuple(runs[: len(kept.runs)])
    assert len(metadata.encode()) <= METADATA_BYTES_MAX
    assert len(kept.runs) >= min(len(runs), 500)


@pytest.mark.parametrize(
    "metadata",
    ["", "x", "f2", "f2:", "f2::", "f2:-1:", "f2:1:!!", "f2:1:AAAA", "f2:1:gA", "f1:AQE=",
     "f2:1:" + "A" * 8_000, "f2:1:é", "f2:\u0661:", f"f2:{'9' * 19}:"],
)  # fmt: skip
def test_foreign_metadata_is_no_mark(metadata: str) -> None:
    """A group that somebody reset, or a broken write."""
    assert decode_mark(5, metadata) is None


@given(st.text(max_size=200), st.binary(max_size=200))
def test_no_metadata_breaks_the_start(text: str, packed: bytes) -> None:
    """Whatever stands there, runs above the base come out, or nothing."""
    for metadata in (text, f"f2:1:{text}", "f2:1:" + packed.hex()):
        mark = decode_mark(5, metadata)
        assert mark is None or all(5 < start < end for start, end in mark.runs)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (None, None, None),
        (Mark(3), None, Mark(3)),
        (Mark(3), Mark(5), Mark(5)),
        (Mark(5, ((7, 8),)), Mark(5, ((6, 8), (9, 10))), Mark(5, ((6, 8), (9, 10)))),
        (Mark(6), Mark(5, ((7, 90),)), Mark(6)),
    ],
)
def test_the_mark_that_says_more_counts(
    one: Mark | None, other: Mark | None, expected: Mark | None
) -> None:
    """Whichever of the two places it stands in."""
    assert further(one, other) == expected
    assert further(other, one) == expected

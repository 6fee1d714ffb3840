"""Runs of finished offsets: they merge, and survive the trip through commit metadata."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.runtime.consume.offsets import (
    METADATA_BYTES_MAX,
    OffsetRuns,
    Run,
    decode_runs,
    encode_runs,
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


@given(st.integers(0, 2**62), st.sets(st.integers(1, 5_000), max_size=400))
def test_what_is_encoded_is_decoded(base: int, beyond: set[int]) -> None:
    """Whatever the base; a few hundred runs always fit."""
    runs = _runs_of({base + offset for offset in beyond})
    metadata = encode_runs(base, runs)

    assert decode_runs(base, metadata) == runs
    assert len(metadata.encode()) <= METADATA_BYTES_MAX


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), max_size=3_000))
def test_what_does_not_fit_is_left_out_from_the_end(steps: list[tuple[int, int]]) -> None:
    """The broker's limit holds, and what is remembered was finished."""
    runs, at = [], 0
    for gap, length in steps:
        runs.append((at + gap, at + gap + length))
        at += gap + length
    metadata = encode_runs(0, runs)

    kept = decode_runs(0, metadata)
    assert kept == runs[: len(kept)]
    assert len(metadata.encode()) <= METADATA_BYTES_MAX
    assert len(kept) >= min(len(runs), 500)


@pytest.mark.parametrize(
    "metadata",
    ["", "x", "f1:", "f1:!!", "f1:AAAA", "f1:gA", "f0:AQE=", "f1:" + "A" * 8_000, "f1:é"],
)
def test_foreign_metadata_is_nothing_remembered(metadata: str) -> None:
    """A group that somebody reset, or a broken write: everything is read again."""
    assert decode_runs(5, metadata) == []


@given(st.text(max_size=200), st.binary(max_size=200))
def test_no_metadata_breaks_the_start(text: str, packed: bytes) -> None:
    """Whatever stands there, runs above the base come out, or none."""
    for metadata in (text, f"f1:{text}", "f1:" + packed.hex()):
        assert all(5 < start < end for start, end in decode_runs(5, metadata))

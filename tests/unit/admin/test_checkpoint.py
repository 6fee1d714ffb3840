"""Verification's checkpoint: what stays, what leaves, and what makes it unusable."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from ingress.admin.finance.checkpoint import (
    DAY_MS,
    FILE_NAME,
    CheckpointBroken,
    CheckpointBusy,
    Place,
    open_checkpoint,
)
from ingress.admin.finance.explain import cells_of
from ingress.admin.finance.hour_sums import sums_of_table
from ingress.admin.finance.usage_log import doubt
from schemas.runtime.kafka.free_consumer import Positions
from tests.unit.admin.test_verify import HOUR, LINE, USAGE

PLACES = {0: Place(7, b"the sixth")}


def _change(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / FILE_NAME) as file:
        file.execute(statement)
    file.close()


def _committed(folder: Path) -> None:
    with open_checkpoint(folder, DAY_MS) as checkpoint:
        checkpoint.add(LINE)
        checkpoint.add_malformed(DAY_MS)
        checkpoint.commit(PLACES)


def test_what_was_committed_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    """Sums, places, and which lines count."""
    _committed(tmp_path)

    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        checkpoint.add(LINE)

        assert checkpoint.places == PLACES
        assert checkpoint.sums(["acme"]) == {"acme": {HOUR: USAGE}}
        assert (checkpoint.lines, checkpoint.malformed) == (1, 1)


def test_what_was_not_committed_is_lost_whole(tmp_path: Path) -> None:
    """Neither a sum nor an id nor a place stays without the others."""
    _committed(tmp_path)
    second = msgspec.structs.replace(LINE, usage_id="r2:1:0")
    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        checkpoint.add(second)
        assert checkpoint.lines == 2

    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        assert (checkpoint.lines, checkpoint.places) == (1, PLACES)
        checkpoint.add(second)
        assert checkpoint.lines == 2


def test_rows_stay_told_apart_however_often_it_is_committed(tmp_path: Path) -> None:
    """The fingerprint of what was added in two parts is that of the whole."""
    second = msgspec.structs.replace(LINE, usage_id="r2:1:0", output_tokens=-3)
    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        for line in (LINE, second):
            checkpoint.add(line)
            checkpoint.commit(PLACES)
        sums = checkpoint.sums(["acme"])["acme"][HOUR]

    assert sums == sums_of_table(cells_of([LINE, second], HOUR))


def test_it_is_remembered_when_books_were_equal(tmp_path: Path) -> None:
    """So that reasons for a difference are looked for from then on."""
    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        checkpoint.note_equal([0, 3], 5_000)
        checkpoint.note_equal([3], 6_000)

    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        assert checkpoint.equal_at_ms == {0: 5_000, 3: 6_000}


def test_a_copy_is_known_however_much_later_it_comes(tmp_path: Path) -> None:
    """For as long as its line counts; across days and openings."""
    _committed(tmp_path)
    for day in range(30):
        with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
            checkpoint.add(
                msgspec.structs.replace(
                    LINE, usage_id=f"other:{day}:0", finished_at_ms=DAY_MS * (day + 1)
                )
            )
            checkpoint.add(LINE)
            checkpoint.commit(PLACES)

    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        assert sum(sums["requests"] for sums in checkpoint.sums(["acme"])["acme"].values()) == 31


def test_days_that_are_no_longer_compared_leave_with_their_ids(tmp_path: Path) -> None:
    """So the file is bounded; a copy of such a line is left out as its line is."""
    _committed(tmp_path)

    with open_checkpoint(tmp_path, 2 * DAY_MS) as checkpoint:
        checkpoint.add(LINE)

        assert (checkpoint.organizations(), checkpoint.lines, checkpoint.malformed) == (set(), 0, 0)
        assert checkpoint.file.execute("SELECT count(*) FROM seen").fetchone() == (0,)


def test_days_that_left_do_not_come_back(tmp_path: Path) -> None:
    """A clock that goes back asks for days that nothing is known of any more."""
    with open_checkpoint(tmp_path, 2 * DAY_MS) as checkpoint:
        checkpoint.commit(PLACES)

    with pytest.raises(CheckpointBroken, match="clock"), open_checkpoint(tmp_path, DAY_MS):
        pass


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sums SET cost_nano_usd = cost_nano_usd + 1",
        "UPDATE place SET next_offset = next_offset + 1",
        "DELETE FROM sums",
        "DELETE FROM fact",
        "DROP TABLE seen",
        "PRAGMA user_version = 99",
    ],
)
def test_a_file_that_was_changed_is_not_believed(tmp_path: Path, statement: str) -> None:
    """A sum that nobody folded must not speak for the log."""
    _committed(tmp_path)
    _change(tmp_path, statement)

    with pytest.raises(CheckpointBroken), open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        checkpoint.add(LINE)


def test_a_file_of_garbage_is_not_believed(tmp_path: Path) -> None:
    """Whatever overwrote it."""
    (tmp_path / FILE_NAME).write_bytes(b"garbage " * 4_096)

    with pytest.raises(CheckpointBroken), open_checkpoint(tmp_path, DAY_MS):
        pass


def test_a_file_that_is_in_use_is_not_broken(tmp_path: Path) -> None:
    """Another verification waits for its turn, and nothing is thrown away."""
    with (
        open_checkpoint(tmp_path, DAY_MS),
        pytest.raises(CheckpointBusy),
        open_checkpoint(tmp_path, DAY_MS),
    ):
        pass


@pytest.mark.parametrize(
    ("bounds", "why"),
    [
        ({0: Positions(0, 7)}, None),
        ({0: Positions(6, 9), 1: Positions(0, 4)}, None),
        ({0: Positions(7, 9)}, "retention passed 6"),
        ({0: Positions(0, 6)}, "before 7: it was made anew or lost records"),
        ({}, "is gone"),
    ],
)
def test_reading_goes_on_only_where_the_witness_may_still_stand(
    bounds: dict[int, Positions], why: str | None
) -> None:
    """A topic made anew, cut short, or deleted up to there is told."""
    told = doubt(PLACES, bounds)

    assert told is None if why is None else told is not None and told.endswith(why)

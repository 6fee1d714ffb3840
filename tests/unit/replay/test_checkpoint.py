"""A checkpoint is of one replay, of one process at a time, and keeps what was committed and no more."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from deploy.replay.checkpoint import discard_checkpoint, open_checkpoint
from deploy.replay.problem import ReplayProblem


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "made" / "replay.sqlite3"


class Killed(Exception):
    """The process is gone."""


def test_what_was_not_committed_is_gone_as_a_whole(file: Path) -> None:
    """Places, counts and content change together."""
    with pytest.raises(Killed), open_checkpoint(file, "this") as checkpoint:  # noqa: PT012  # it is killed at the end
        checkpoint.count("read", 5)
        checkpoint.name_undecodable(0, 3, "garbage")
        checkpoint.commit({0: 5})
        checkpoint.count("read", 5)
        checkpoint.name_undecodable(0, 7, "garbage")
        raise Killed

    with open_checkpoint(file, "this") as checkpoint:
        assert checkpoint.places() == {0: 5}
        assert checkpoint.counts() == {"read": 5, "undecodable": 1}
        assert checkpoint.undecodable(9) == [(0, 3, "garbage")]


def test_another_replay_does_not_go_on_with_it(file: Path) -> None:
    """Other filters would be added to the same sums."""
    with open_checkpoint(file, "accounting acme") as checkpoint:
        checkpoint.commit({})

    with (
        pytest.raises(ReplayProblem, match="gone on with"),
        open_checkpoint(file, "accounting bolt"),
    ):
        pass


def test_two_processes_do_not_go_on_with_it_at_once(file: Path) -> None:
    """Both would fold the same records."""
    with (
        open_checkpoint(file, "this"),
        pytest.raises(ReplayProblem, match="under way already"),
        open_checkpoint(file, "this"),
    ):
        pass


def test_a_file_that_is_none_is_told(file: Path) -> None:
    """And left as it is: it is somebody's."""
    file.parent.mkdir()
    file.write_bytes(b"something else, and long enough to be no database" * 50)

    with pytest.raises(ReplayProblem, match="gone on with"), open_checkpoint(file, "this"):
        pass
    assert file.read_bytes().startswith(b"something else")


def test_a_file_of_another_version_is_told(file: Path) -> None:
    """Its tables may mean something else."""
    file.parent.mkdir()
    with sqlite3.connect(file) as other:
        other.execute("PRAGMA user_version = 99")
        other.execute("CREATE TABLE something (x)")
    other.close()

    with pytest.raises(ReplayProblem, match="gone on with") as told, open_checkpoint(file, "this"):
        pass
    assert "99" in told.value.why


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Before anything is read."""
    (tmp_path / "file").write_text("no folder")

    with (
        pytest.raises(ReplayProblem, match="cannot be written"),
        open_checkpoint(tmp_path / "file" / "replay.sqlite3", "this"),
    ):
        pass


def test_nothing_is_left_of_a_replay_that_has_ended(file: Path) -> None:
    """The next of the same words begins anew."""
    with open_checkpoint(file, "this") as checkpoint:
        checkpoint.commit({0: 1})

    discard_checkpoint(file)

    assert list(file.parent.iterdir()) == []

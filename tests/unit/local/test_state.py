"""The state folder: one owner, private secrets, remembered identity."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from deploy.embedded.problem import StackError
from deploy.embedded.state import StateFolder, check_free_space, new_memory, write_private


def test_a_second_claim_of_a_folder_is_refused_until_the_first_is_released(tmp_path: Path) -> None:
    """Two brokers on one log would destroy it."""
    first = StateFolder.claim(tmp_path / "state")

    with pytest.raises(StackError, match="is in use"):
        StateFolder.claim(tmp_path / "state")
    first.release()
    StateFolder.claim(tmp_path / "state").release()


def test_memory_survives_a_restart_and_is_private(tmp_path: Path) -> None:
    """The pepper and the first key come back; nobody else may read them."""
    memory = new_memory(random.Random(7).randbytes)
    folder = StateFolder.claim(tmp_path)
    folder.remember(memory)
    folder.release()

    again = StateFolder.claim(tmp_path)

    assert again.memory() == memory
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    again.release()


def test_a_first_start_remembers_nothing(tmp_path: Path) -> None:
    """An empty folder is a first start, not a problem."""
    folder = StateFolder.claim(tmp_path)

    assert folder.memory() is None
    folder.release()


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    """The user is told which file to restore."""
    folder = StateFolder.claim(tmp_path)
    write_private(tmp_path / "stack.json", {"unknown": 1})

    with pytest.raises(StackError, match=r"stack\.json cannot be understood"):
        folder.memory()
    folder.release()


def test_a_cluster_id_never_looks_like_an_option() -> None:
    """Kafka's tool would take a leading dash for an option; ids have 22 characters."""
    identity = new_memory(lambda count: b"\xfb" * count)

    assert identity.cluster_id.startswith("K")
    assert len(identity.cluster_id) == 22


def test_a_nearly_full_disk_is_refused() -> None:
    """One byte too few is too few."""
    check_free_space(Path("/somewhere"), free_bytes=100, needed_bytes=100)

    with pytest.raises(StackError, match="too little disk space"):
        check_free_space(Path("/somewhere"), free_bytes=99, needed_bytes=100)

"""Log files of children are bounded while they grow, and keep what was said last."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from deploy.embedded import log_files, process
from deploy.embedded.log_files import bound_log, last_words, older_part
from deploy.embedded.problem import StackError
from deploy.embedded.process import ProcessSpec, SupervisedProcess


def test_a_short_log_is_left_alone(tmp_path: Path) -> None:
    """And one that does not exist is no problem."""
    log = tmp_path / "a.log"
    bound_log(log, 10)
    log.write_bytes(b"0123456789")
    bound_log(log, 10)

    assert log.read_bytes() == b"0123456789"
    assert not older_part(log).exists()


def test_a_long_log_is_cut_and_its_end_is_kept_beside_it(tmp_path: Path) -> None:
    """Together they have at most twice the bound, whatever a burst wrote."""
    log = tmp_path / "a.log"
    older_part(log).write_bytes(b"older")
    log.write_bytes(b"x" * 100 + b"0123456789")
    bound_log(log, 10)

    assert log.read_bytes() == b""
    assert older_part(log).read_bytes() == b"0123456789"


def test_a_writer_goes_on_at_the_beginning_of_the_cut_file(tmp_path: Path) -> None:
    """It holds the same file open, in append mode."""
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 20)
        bound_log(log, 10)
        writer.write(b"next")

    assert log.read_bytes() == b"next"


def test_on_a_full_disk_the_log_is_cut_without_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room is worth more than the older lines."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 20)
    bound_log(log, 10)

    assert log.read_bytes() == b""
    assert not older_part(log).exists()


def test_last_words_are_found_beside_a_log_that_was_just_cut(tmp_path: Path) -> None:
    """And no byte of them moves a cursor."""
    log = tmp_path / "a.log"
    log.write_bytes(b"first\nlast \x1b[2J\xff\n\n")
    bound_log(log, 14)

    assert last_words(log) == "last \\x1b[2J\N{REPLACEMENT CHARACTER}"
    assert last_words(tmp_path / "none.log") == ""


async def test_a_running_child_that_never_stops_talking_keeps_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a restart; what it says as it ends is told."""
    monkeypatch.setattr(process, "CHECK_PERIOD_S", 0.02)
    monkeypatch.setattr(log_files, "LOG_BYTES_MAX", 10_000)
    monkeypatch.setattr(bound_log, "__defaults__", (10_000,))
    program = (
        "import sys, time\n"
        "for n in range(400):\n"
        "    print('x' * 1000, flush=True); time.sleep(0.002)\n"
        "sys.exit('last words')\n"
    )

    async def never() -> bool:
        return False

    spec = ProcessSpec(
        name="talker",
        argv=(sys.executable, "-c", program),
        environment=dict(os.environ),
        log_path=tmp_path / "talker.log",
        address="127.0.0.1:1",
        is_ready=never,
    )
    child = SupervisedProcess(spec, lambda _: None)
    starting = asyncio.create_task(child.start())
    largest = 0
    while not starting.done():
        await asyncio.sleep(0.01)
        if spec.log_path.exists():
            largest = max(largest, spec.log_path.stat().st_size)
    with pytest.raises(StackError) as failed:
        await starting
    await child.stop()

    assert 10_000 < largest < 100_000
    assert "last words" in failed.value.why
    assert older_part(spec.log_path).stat().st_size <= 10_000

"""The log files of child processes: bounded while they grow, without a hand of ours in their way.

A child writes into its file by itself, in append mode, so a supervisor that stands still stops nobody
and the last words of a child that crashes are there. What is too long is copied aside and cut, at most
a moment later; on a full disk it is cut without a copy.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from schemas.printable import printable

LOG_BYTES_MAX = 16 << 20
"""Of a file; with the older part beside it, twice that."""
CHECK_PERIOD_S = 1.0
_LAST_WORDS_BYTES = 4_096


def older_part(log_path: Path) -> Path:
    """Where the part before the last cut stands."""
    return log_path.with_suffix(".log.1")


def bound_log(log_path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Cut the file if it is longer than ``bytes_max``; what it had becomes the older part.

    A line that is written between the copy and the cut, some microseconds, is lost.
    """
    try:
        if log_path.stat().st_size <= bytes_max:
            return
    except OSError:
        return
    with log_path.open("r+b") as log:
        try:
            _copy_newest(log_path, older_part(log_path), bytes_max)
        except OSError:
            older_part(log_path).unlink(missing_ok=True)
        log.truncate(0)


def last_words(log_path: Path) -> str:
    """The last line that is not empty, fit for a terminal; empty when there is none."""
    for path in (log_path, older_part(log_path)):
        try:
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - _LAST_WORDS_BYTES))
                lines = log.read(_LAST_WORDS_BYTES).decode(errors="replace").split("\n")
        except OSError:
            continue
        found = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if found:
            return printable(found)
    return ""


def _copy_newest(log_path: Path, target: Path, bytes_max: int) -> None:
    """Copy the end of the file, also where a burst made it much longer than it may be."""
    with log_path.open("rb") as source, target.open("wb") as copy:
        source.seek(max(0, log_path.stat().st_size - bytes_max))
        shutil.copyfileobj(source, copy)

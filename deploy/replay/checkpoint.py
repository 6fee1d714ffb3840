"""The checkpoint of a replay: what it has come to and how far it has read, in one file that changes as a whole.

A SQLite file, because both change together or not at all, and because what was seen needs room that is no memory.
Whoever is killed loses what was read since the last commit, and reads that again.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from deploy.replay.problem import ReplayProblem

__all__ = ["Checkpoint", "discard_checkpoint", "open_checkpoint"]

VERSION: Final = 1
"""Of the layout; a file of another cannot be gone on with."""
_CACHE_KIB: Final = 32 * 1024
_LAYOUT: Final = f"""
CREATE TABLE place (partition INTEGER PRIMARY KEY, next_offset INTEGER);
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE counted (name TEXT PRIMARY KEY, amount INTEGER) WITHOUT ROWID;
CREATE TABLE undecodable (partition INTEGER, offset INTEGER, why TEXT, PRIMARY KEY (partition, offset)) WITHOUT ROWID;
CREATE TABLE seen (id TEXT PRIMARY KEY, place INTEGER) WITHOUT ROWID;
CREATE TABLE cell (org TEXT, hour TEXT, row TEXT, measure TEXT, fold INTEGER, live INTEGER,
  PRIMARY KEY (org, hour, row, measure)) WITHOUT ROWID;
CREATE TABLE line (id TEXT PRIMARY KEY, org TEXT, hour TEXT, row TEXT, amounts TEXT, is_met INTEGER) WITHOUT ROWID;
CREATE TABLE beside (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE taken (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE period (org TEXT, balance TEXT, fold INTEGER, live INTEGER, PRIMARY KEY (org, balance)) WITHOUT ROWID;
CREATE TABLE reached (org TEXT, hour TEXT, offset INTEGER, PRIMARY KEY (org, hour)) WITHOUT ROWID;
CREATE TABLE changed (id TEXT PRIMARY KEY, org TEXT, key TEXT, model TEXT, was TEXT, now TEXT, at_ms INTEGER, why TEXT) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""
_COUNT: Final = (
    "INSERT INTO counted VALUES (?, ?) ON CONFLICT DO UPDATE SET amount = amount + excluded.amount"
)


@dataclass(slots=True)
class Checkpoint:
    """An open file. What is added stays once it is committed."""

    file: sqlite3.Connection
    _counted: dict[str, int] = field(default_factory=dict)

    def places(self) -> dict[int, int]:
        """The next offset of each partition that was begun."""
        return dict(self.file.execute("SELECT partition, next_offset FROM place"))

    def count(self, name: str, by: int = 1) -> None:
        """Add to a count."""
        self._counted[name] = self._counted.get(name, 0) + by

    def counts(self) -> dict[str, int]:
        """All counts."""
        self._flush()
        return dict(self.file.execute("SELECT name, amount FROM counted"))

    def name_undecodable(self, partition: int, offset: int, why: str) -> None:
        """Remember a record that cannot be read, by its place."""
        self.count("undecodable")
        self.file.execute(
            "INSERT OR IGNORE INTO undecodable VALUES (?, ?, ?)", (partition, offset, why)
        )

    def undecodable(self, limit: int) -> list[tuple[int, int, str]]:
        """The first of those: partition, offset, why."""
        return list(self.file.execute("SELECT * FROM undecodable ORDER BY 1, 2 LIMIT ?", (limit,)))

    def fact(self, name: str) -> str | None:
        """What was noted under a name."""
        row = self.file.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, value: str) -> None:
        """Note something; what was noted before is replaced."""
        self.file.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def commit(self, places: Mapping[int, int]) -> None:
        """Keep everything, read up to these places."""
        self._flush()
        self.file.executemany("INSERT OR REPLACE INTO place VALUES (?, ?)", places.items())
        self.file.commit()
        self.file.execute("BEGIN")

    def _flush(self) -> None:
        self.file.executemany(_COUNT, list(self._counted.items()))
        self._counted.clear()


@contextmanager
def open_checkpoint(file: Path, asked: str) -> Iterator[Checkpoint]:
    """The checkpoint in this file, a new one where there is none. ``asked`` says of which replay it is.

    Raises ``ReplayProblem`` for a file of another replay, one that is none, and one that another process goes on with.
    """
    with _locked(file), _told(file), closing(sqlite3.connect(file, isolation_level=None)) as opened:
        opened.execute("PRAGMA synchronous = NORMAL")
        opened.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        (version,) = opened.execute("PRAGMA user_version").fetchone()
        (tables,) = opened.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not version and not tables:
            opened.executescript(f"BEGIN; {_LAYOUT} COMMIT;")
        elif version != VERSION:
            raise _other(file, f"its version is {version}, not {VERSION}")
        opened.execute("BEGIN")
        checkpoint = Checkpoint(opened)
        known = checkpoint.fact("asked")
        if known is None:
            checkpoint.note("asked", asked)
        elif known != asked:
            raise _other(file, f"it is of another replay: {known}")
        yield checkpoint
        opened.commit()


def discard_checkpoint(file: Path) -> None:
    """Remove the file, and what an interrupted write left beside it."""
    for name in (file, _beside(file, "-journal"), _beside(file, ".lock")):
        name.unlink(missing_ok=True)


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


@contextmanager
def _locked(file: Path) -> Iterator[IO[str]]:
    """Whoever holds it goes on with the file; the kernel gives it back also after kill -9."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _beside(file, ".lock").open("a", encoding="utf-8")
    except OSError as error:
        raise _unwritable(file, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ReplayProblem(
                "this replay is under way already",
                f"another process goes on with {file}",
                "wait for it, or name another file with --checkpoint",
            ) from error
        yield lock


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """SQLite's errors in our own terms."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNWRITABLE:
            raise _unwritable(file, error) from error
        raise _other(file, str(error)) from error


_UNWRITABLE: Final = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR,
)  # fmt: skip


def _unwritable(file: Path, error: Exception) -> ReplayProblem:
    fix = "make room there, or name another file with --checkpoint"
    return ReplayProblem(f"{file} cannot be written", str(error), fix)


def _other(file: Path, why: str) -> ReplayProblem:
    fix = "remove it, or name another file with --checkpoint"
    return ReplayProblem(f"{file} cannot be gone on with", why, fix, is_usage=True)

"""Verification's own fold of the usage log: sums, how far each partition was read, and which lines count.

It is made from ``usage.records.v1`` alone; nothing that is under test is a source of it. One SQLite file
keeps it, because the three change together or not at all, and because ids need room that is no memory.

Bounds. Sums are per organization and UTC hour, as the usage tables are, ids per line, and both leave together
when their day is no longer compared (``verify.COMPARED_SPAN``). So a copy of a line is known for as long as the line counts,
whenever it was appended, which is what a reading from the beginning would say; and the file has at most
the lines of that span, some 60 bytes each. Memory is the page cache and what was not committed yet.

The file is a cache: without it, with one that is broken, or with one of another log, all is read anew.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from ingress.admin.finance.hour_sums import PRIME, ROWS, SUMS, sums_of_line
from schemas.events import UsageRecorded
from schemas.failures import Poison, Transient
from schemas.usage import MEASURES, hour_of

FILE_NAME: Final = "verified-usage.sqlite3"
VERSION: Final = 3
"""Of the file's layout; one of another is made anew."""
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

_BUSY_S: Final = 2.0
_CACHE_KIB: Final = 16 * 1024
_PRIMARY: Final = 0xFF
"""The part of an error's code that says its kind."""
_TAKEN: Final = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM,
)  # fmt: skip
_SUMS: Final = ("lines", *SUMS)
_TABLES: Final = ("place", "sums", "seen", "malformed", "equal", "fact")
_LAYOUT: Final = f"""
CREATE TABLE place (partition INTEGER PRIMARY KEY, next_offset INTEGER, witness BLOB);
CREATE TABLE sums (org TEXT, hour INTEGER, {", ".join(f"{name} INTEGER" for name in _SUMS)},
  PRIMARY KEY (org, hour)) WITHOUT ROWID;
CREATE TABLE seen (id TEXT PRIMARY KEY, day INTEGER) WITHOUT ROWID;
CREATE TABLE malformed (day INTEGER PRIMARY KEY, lines INTEGER);
CREATE TABLE equal (shard INTEGER PRIMARY KEY, at_ms INTEGER);
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""
_ADD: Final = (
    f"INSERT INTO sums VALUES ({', '.join('?' * (2 + len(_SUMS)))}) ON CONFLICT DO UPDATE SET "  # noqa: S608  # no input
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in ("lines", *MEASURES))
    + f", {ROWS} = ({ROWS} + excluded.{ROWS}) % {PRIME}"
)
_READ: Final = f"SELECT org, hour, {', '.join(SUMS)} FROM sums WHERE org = ?"  # noqa: S608  # no input

Hours: TypeAlias = Mapping[str, Mapping[str, int]]
"""By UTC hour (`2026-11-21T12`), its sums."""


class CheckpointBroken(Poison):
    """The file is no checkpoint of this version, or its content is not what was written."""


class CheckpointBusy(Transient):
    """Another process verifies with this file, or it cannot be written; it is not broken."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far one partition is folded, and the digest of the last record before that, its witness."""

    next_offset: int
    witness: bytes


def digest_of(offset: int, appended_at_ms: int, value: bytes | None) -> bytes:
    """What tells a record from any other that may stand at its offset in another log."""
    hashed = hashlib.blake2b(value or b"", digest_size=16)
    hashed.update(f"{offset}:{appended_at_ms}".encode())
    return hashed.digest()


@dataclass(slots=True)
class Checkpoint:
    """The fold in its file. What is added counts at once and stays once it is committed."""

    file: sqlite3.Connection
    oldest_day: int
    """Days since 1970; lines of attempts that ended earlier are left out, as they left the usage tables."""
    _added: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    _malformed: dict[int, int] = field(default_factory=dict)

    @property
    def places(self) -> dict[int, Place]:
        """How far each partition was folded when it was last committed."""
        rows = self.file.execute("SELECT partition, next_offset, witness FROM place")
        return {number: Place(offset, witness) for number, offset, witness in rows}

    def add(self, line: UsageRecorded) -> bool:
        """Take a line in, and whether it counts: a copy of one, or one that is no longer compared, does not."""
        day = line.finished_at_ms // DAY_MS
        if day < self.oldest_day:
            return False
        seen = self.file.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (line.usage_id, day))
        if not seen.rowcount:
            return False
        key = (line.org, line.finished_at_ms // HOUR_MS)
        sums = self._added.setdefault(key, [0] * len(_SUMS))
        for number, amount in enumerate((1, *sums_of_line(line))):
            sums[number] += amount
        sums[-1] %= PRIME
        return True

    def add_malformed(self, appended_at_ms: int) -> None:
        """Count a record that is no usage line."""
        day = appended_at_ms // DAY_MS
        self._malformed[day] = self._malformed.get(day, 0) + 1

    def commit(self, places: Mapping[int, Place]) -> None:
        """Keep all that was added, up to these places."""
        self._flush()
        rows = [(number, place.next_offset, place.witness) for number, place in places.items()]
        self.file.executemany("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", rows)
        self._note("oldest_day", str(self.oldest_day))
        self._note("digest", self._digest())
        self.file.commit()

    def clear(self) -> None:
        """Begin anew."""
        self._added.clear()
        self._malformed.clear()
        for table in _TABLES:
            self.file.execute(f"DELETE FROM {table}")  # noqa: S608  # names of our own

    def organizations(self) -> set[str]:
        """All that have a line that counts."""
        self._flush()
        return {org for (org,) in self.file.execute("SELECT DISTINCT org FROM sums")}

    def sums(self, orgs: Iterable[str]) -> dict[str, Hours]:
        """Of these organizations, by hour, of all days that are compared."""
        self._flush()
        return {org: self._hours(org) for org in orgs}

    def _hours(self, org: str) -> Hours:
        return {
            hour_of(hour * HOUR_MS): dict(zip(SUMS, sums, strict=True))
            for _, hour, *sums in self.file.execute(_READ, (org,))
        }

    @property
    def equal_at_ms(self) -> dict[int, int]:
        """By shard, when its books were last found equal to the log."""
        return dict(self.file.execute("SELECT shard, at_ms FROM equal"))

    def note_equal(self, shards: Iterable[int], at_ms: int) -> None:
        """The books of these shards were equal to the log at that time."""
        rows = [(shard, at_ms) for shard in shards]
        self.file.executemany("INSERT OR REPLACE INTO equal VALUES (?, ?)", rows)
        self.file.commit()

    @property
    def lines(self) -> int:
        """Distinct lines that count."""
        self._flush()
        return int(self.file.execute("SELECT SUM(lines) FROM sums").fetchone()[0] or 0)

    @property
    def malformed(self) -> int:
        """Records of the usage log that are no usage lines."""
        self._flush()
        return int(self.file.execute("SELECT SUM(lines) FROM malformed").fetchone()[0] or 0)

    def check(self) -> None:
        """Raise ``CheckpointBroken`` unless the content is what was committed; leave days of no interest."""
        if not self.places:
            return
        if self._fact("digest") != self._digest():
            raise CheckpointBroken("its sums are not those that were written")
        left_day = int(self._fact("oldest_day"))
        if left_day > self.oldest_day:
            raise CheckpointBroken("the clock went back behind days that it has left out")
        if left_day < self.oldest_day:
            hour = self.oldest_day * DAY_MS // HOUR_MS
            self.file.execute("DELETE FROM sums WHERE hour < ?", (hour,))
            for table in ("seen", "malformed"):
                self.file.execute(f"DELETE FROM {table} WHERE day < ?", (self.oldest_day,))  # noqa: S608  # names of our own

    def _flush(self) -> None:
        self.file.executemany(_ADD, [(*key, *sums) for key, sums in self._added.items()])
        self._added.clear()
        self.file.executemany(
            "INSERT INTO malformed VALUES (?, ?) ON CONFLICT DO UPDATE SET lines = lines + excluded.lines",
            list(self._malformed.items()),
        )
        self._malformed.clear()

    def _digest(self) -> str:
        hashed = hashlib.blake2b(digest_size=16)
        for table in ("place", "sums", "malformed"):
            for row in self.file.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):  # noqa: S608  # names of our own
                hashed.update(msgspec.json.encode(row))
        return hashed.hexdigest()

    def _note(self, name: str, value: str) -> None:
        self.file.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def _fact(self, name: str) -> str:
        row = self.file.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise CheckpointBroken(f"it does not say its {name}")
        return str(row[0])


@contextmanager
def open_checkpoint(folder: Path, oldest_ms: int) -> Iterator[Checkpoint]:
    """The checkpoint of this folder, a new one where there is none; ``oldest_ms`` begins the first day compared.

    Raises ``CheckpointBroken``, also later, and ``CheckpointBusy``. Who is killed loses what was not committed.
    """
    with _told(), closing(sqlite3.connect(folder / FILE_NAME, timeout=_BUSY_S)) as file:
        # Nobody else may read it meanwhile, and what is lost with the machine is read again.
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        file.execute("PRAGMA synchronous = NORMAL")
        file.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        (version,) = file.execute("PRAGMA user_version").fetchone()
        (tables,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not version and not tables:
            file.executescript(_LAYOUT)
        elif version != VERSION:
            raise CheckpointBroken(f"its version is {version}, not {VERSION}")
        file.execute("BEGIN EXCLUSIVE")
        checkpoint = Checkpoint(file, oldest_ms // DAY_MS)
        checkpoint.check()
        yield checkpoint


def discard_checkpoint(folder: Path) -> None:
    """Remove the file, and what an interrupted write left beside it."""
    for name in (FILE_NAME, f"{FILE_NAME}-journal"):
        (folder / name).unlink(missing_ok=True)


@contextmanager
def _told() -> Iterator[None]:
    """SQLite's errors in our own terms."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _TAKEN:
            raise CheckpointBusy(f"{FILE_NAME}: {error}") from error
        raise CheckpointBroken(str(error)) from error

"""The process that folds long stretches beside the owner of shards: ``python -m accounting.rebuild.fold_process BROKERS``.

It is asked on stdin and answers on stdout, one document after another, and ends when stdin does. It only reads: all
writes are its parent's, so that fencing knows of one writer as ever. Whoever asked hears of it once a second.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import IO, Final, TypeAlias

import msgspec

from accounting.earlier import EarlierRecords
from accounting.rebuild.log import open_log
from accounting.rebuild.stretches import (
    Folded,
    FoldedHours,
    HourStretch,
    OutcomeStretch,
    fold_hours,
    fold_outcomes,
)
from schemas.failures import Transient
from schemas.runtime.process.log_lines import configure_logging

__all__ = ["LENGTH_BYTES", "Failed", "Progress", "Reply", "Work", "framed", "work_on"]

LENGTH_BYTES: Final = 8
_TELLS_EVERY_S: Final = 1.0


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """It lives, and has read so many records more."""

    records: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """What kept it from folding."""

    why: str
    is_defect: bool
    """Whether another try would come to the same."""


Work: TypeAlias = OutcomeStretch | HourStretch
Reply: TypeAlias = Progress | Failed | Folded | FoldedHours

_WORK: Final = msgspec.msgpack.Decoder(Work)


def framed(document: Work | Reply) -> bytes:
    """A document with its length before it."""
    encoded = msgspec.msgpack.encode(document)
    return len(encoded).to_bytes(LENGTH_BYTES) + encoded


async def work_on(work: Work, brokers: str, say: Callable[[Reply], None]) -> None:
    """Fold the stretch, and say how it went. Raises what ``say`` does."""
    unsaid = 0

    def tell() -> None:
        nonlocal unsaid
        say(Progress(unsaid))
        unsaid = 0

    async def beat() -> None:
        while True:
            await asyncio.sleep(_TELLS_EVERY_S)
            tell()

    async def count(records: int) -> None:
        nonlocal unsaid
        unsaid += records
        if beating.done():
            beating.result()  # Nobody listens any more.

    beating = asyncio.create_task(beat())
    try:
        reply = await _folded(work, brokers, count)
    finally:
        beating.cancel()
    tell()
    say(reply)


async def _folded(work: Work, brokers: str, count: Callable[[int], Awaitable[None]]) -> Reply:
    try:
        async with open_log(brokers) as log:
            if isinstance(work, HourStretch):
                return await fold_hours(work, log, count)
            return await fold_outcomes(work, log, EarlierRecords(brokers), count)
    except BrokenPipeError:
        raise
    except Transient as error:
        return Failed(repr(error), is_defect=False)
    except Exception as defect:  # noqa: BLE001  # total: whoever asked is told
        return Failed(repr(defect), is_defect=True)


def _asked(requests: IO[bytes]) -> Work | None:
    """The next request; ``None`` when there will be none."""
    length = requests.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    work: Work = _WORK.decode(requests.read(int.from_bytes(length)))
    return work


def main() -> None:
    """Work until stdin ends, or nobody listens; its first line says where the brokers are."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Its parent's to hear.
    # It lives for seconds, and makes nothing in cycles that would be worth looking for.
    gc.disable()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # What else is said must not come between.
    configure_logging("accounting", "WARNING")

    def say(reply: Reply) -> None:
        replies.write(framed(reply))
        replies.flush()

    brokers = msgspec.json.decode(sys.stdin.buffer.readline() or b'""', type=str)
    with suppress(BrokenPipeError):
        while (work := _asked(sys.stdin.buffer)) is not None:
            asyncio.run(work_on(work, brokers, say))


if __name__ == "__main__":
    main()

"""The control socket of a running `tallygate up`: other commands of this user ask it to scale and to restart.

One line of JSON asks; lines of JSON answer: what happens as it happens, then how it ended. One change at a time.
Whoever asked may leave: the change goes on. The socket lies in a folder of this user alone, with a short name,
because the kernel bounds the length of its path.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from deploy.embedded.banner import render_progress
from deploy.embedded.problem import StackError
from deploy.embedded.process import Progress
from deploy.embedded.replicas import processes_meant, read_replicas
from deploy.embedded.stack import Stack

PAUSE_MAX_S: Final = 60.0
_LINE_MAX: Final = 64 * 1024
_ASKED_WITHIN_S: Final = 5.0


class Scale(msgspec.Struct, frozen=True, tag="scale", forbid_unknown_fields=True):
    """So many of each role, as ``--replicas`` has it."""

    replicas: str


class Restart(msgspec.Struct, frozen=True, tag="restart", forbid_unknown_fields=True):
    """These roles and processes, one process at a time; all for no words."""

    words: tuple[str, ...] = ()
    pause_s: float = 0.0
    """Between one that is ready and the next, for whoever distributes requests to notice."""


_READER: Final = msgspec.json.Decoder(Scale | Restart)


class Control:
    """Takes changes for one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._folder: Path | None = None
        self._server: asyncio.Server | None = None
        self._asker: asyncio.StreamWriter | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    async def open(self) -> Path:
        """Listen; the socket's path."""
        self._folder = Path(tempfile.mkdtemp(prefix="tallygate-"))
        path = self._folder / "control"
        self._server = await asyncio.start_unix_server(self._serve, path, limit=_LINE_MAX)
        return path

    async def close(self) -> None:
        """Take no more, and give up what is under way; a second call does nothing."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def hear(self, progress: Progress) -> None:
        """Pass on what happens to whoever asked for it."""
        if self._asker is not None:
            _answer(self._asker, {"told": render_progress(progress)})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            async with asyncio.timeout(_ASKED_WITHIN_S):
                line = await reader.readline()
            _answer(writer, await self._changed(line, writer))
        except StackError as problem:
            _answer(writer, {"problem": [problem.what, problem.why, problem.fix]})
        except (TimeoutError, OSError, ValueError):
            pass  # Nothing was asked, or a line without an end.
        finally:
            self._serving.discard(task)
            writer.close()

    async def _changed(self, line: bytes, writer: asyncio.StreamWriter) -> dict[str, Any]:
        """What stands afterwards."""
        if self._asker is not None:
            why = "one is done at a time"
            raise StackError("another change is under way", why, "wait for its end, then ask again")
        self._asker = writer
        try:
            return await self._change(_read(line))
        except ValueError as error:
            fix = "tallygate scale --help and tallygate restart --help show how it is written"
            raise StackError("that cannot be done", str(error), fix) from error
        finally:
            self._asker = None

    async def _change(self, wanted: Scale | Restart) -> dict[str, Any]:
        stack = self._stack
        restarted: tuple[str, ...] = ()
        match wanted:
            case Scale(replicas=text):
                await stack.scale(read_replicas(text, stack.partitions))
            case Restart(words=words, pause_s=pause_s):
                restarted = processes_meant(words, stack.replicas)
                await _restart(stack, restarted, pause_s)
        return {
            "replicas": dict(stack.replicas),
            "restarted": list(restarted),
            "apis": list(stack.api_urls),
            "admins": list(stack.admin_urls),
        }


async def _restart(stack: Stack, names: Sequence[str], pause_s: float) -> None:
    """The first that does not start ends it, so that the others go on as they are."""
    for number, name in enumerate(names):
        await asyncio.sleep(pause_s if number else 0.0)
        await stack.restart(name)


def _read(line: bytes) -> Scale | Restart:
    try:
        wanted: Scale | Restart = _READER.decode(line)
    except msgspec.MsgspecError as error:
        raise ValueError(f"it is no change: {error}") from error
    if isinstance(wanted, Restart) and not 0 <= wanted.pause_s <= PAUSE_MAX_S:
        raise ValueError(f"a pause of {wanted.pause_s:g} s is not 0 to {PAUSE_MAX_S:g}")
    return wanted


def _answer(writer: asyncio.StreamWriter, value: Mapping[str, Any]) -> None:
    if not writer.is_closing():
        writer.write(msgspec.json.encode(value) + b"\n")

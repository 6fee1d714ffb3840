"""Where a process of the gateway may kill itself between two steps, so that a test can choose the step.

Imported by ``deathbed/sitecustomize.py`` into the processes of a stack under test. The first one that comes
past the step whose name stands in the file removes that file and dies. The product knows nothing of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dispatcher.settlement.recording import Recording
from dispatcher.upstream.upstreams import Upstreams
from schemas import topics
from schemas.frames import Chunk, Terminal
from schemas.ledger import answers
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.valkey.bus import Bus

MID_CALL_S: Final = 0.3
_BEFORE_OUTCOME: Final = "after the terminal frame, before the outcome"


def _bed() -> Path:
    return Path(os.environ["TALLYGATE_TEST_DEATHBED"])


def _is_due(step: str) -> bool:
    return _bed().exists() and _bed().read_text() == step


def _die(step: str) -> None:
    if _is_due(step):
        _bed().unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _after(owner: Any, name: str, step: str, is_it: Callable[..., bool]) -> None:
    """Die once the method has returned, for the calls that are meant."""
    real = getattr(owner, name)

    async def dying(*args: Any, **more: Any) -> Any:
        result = await real(*args, **more)
        if is_it(result, *args):
            _die(step)
        return result

    setattr(owner, name, dying)


def _before(owner: Any, name: str, step: str) -> None:
    real = getattr(owner, name)

    async def dying(*args: Any, **more: Any) -> Any:
        _die(step)
        return await real(*args, **more)

    setattr(owner, name, dying)


def _of_ledger(role: str) -> None:
    if role == "dispatcher":
        _after(LedgerClient, "start", "after start", lambda got, *_: isinstance(got, answers.Fence))
        _after(LedgerClient, "finish", "after finish, before the terminal frame", lambda *_: True)
    if role == "accounting":
        _before(LedgerClient, "book", "before book")
        _after(LedgerClient, "book", "after book, before the usage lines", lambda *_: True)
    if role == "limiter_worker":
        _after(LedgerClient, "reap", "between reap and reaped", lambda got, *_: bool(got.entries))


def _of_dispatcher() -> None:
    call, send = Upstreams.call, Producer.send

    def calling(*args: Any, **more: Any) -> Any:
        asyncio.get_running_loop().call_later(MID_CALL_S, _die, "in the middle of the call")
        return call(*args, **more)

    def sending(self: Producer, record: Outgoing) -> asyncio.Future[Any]:
        if record.topic == topics.OUTCOMES and _is_due(_BEFORE_OUTCOME):
            # It is handed over before the frame is: kept back until this process dies of the frame.
            return asyncio.get_running_loop().create_future()
        return send(self, record)

    for owner, name, method in ((Upstreams, "call", calling), (Producer, "send", sending)):
        setattr(owner, name, method)
    _after(Recording, "arrived", "after the outcome, before the offset", lambda *_: True)
    for kind, step in ((Chunk, "after the first frame"), (Terminal, _BEFORE_OUTCOME)):
        _after(Bus, "send", step, lambda _, __, frame, *___, k=kind: isinstance(frame.content, k))


def lie_down(role: str) -> None:
    """From now on the process of this role dies where it is told to."""
    _of_ledger(role)
    if role == "dispatcher":
        _of_dispatcher()

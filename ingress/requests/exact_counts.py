"""Counts the input of requests exactly, beside the event loop, for models that declare their tokenizer.

The bound by bytes needs no counting and holds for any tokenizer; the exact one is a quarter of it. It is taken before
the request is in the log, so that every copy of its record holds the same. Within bounds of bytes and time, and one after the
other for each organization, so that nobody's texts hold up another's; beyond them the bound by bytes stands.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from ingress.apis.exact_bound import Texts, exact_bound
from ingress.requests.tokenizer_files import TokenizerFiles
from ingress.requests.validation import ValidatedRequest
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.tokenizers import Count, Tokenizer, TokenizerFile, count

_LOG = EventLog(__name__)

AT_ONCE_BYTES_MAX: Final = 4 * 1024
"""Counted in the loop: a tenth of a millisecond of prose, two of what is worst."""
BYTES_MAX: Final = 512 * 1024
"""More is not counted: a quarter of a second at the worst."""
_WAIT_MAX_S: Final = 1.0


@dataclass(slots=True)
class _Line:
    """The requests of one organization that are to be counted."""

    members: int = 0
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))


@dataclass(slots=True)
class ExactCounts:
    """Counts in threads of its own, two at once."""

    wait_max_s: float = _WAIT_MAX_S
    files: TokenizerFiles = field(default_factory=TokenizerFiles)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="exact")
    )
    _lines: dict[str, _Line] = field(default_factory=dict)
    _ready: dict[Tokenizer, Count] = field(default_factory=dict)
    """Tokenizers by name whose tables were read. Those of files are ten times slower, and stay beside the loop."""

    async def bounded(self, request: ValidatedRequest) -> ValidatedRequest:
        """The request with the lower of its bounds. Never raises."""
        call = request.parsed.call
        if call.texts is None:
            return request
        exact = await self.counted(request.caller.org, call.texts)
        bound = call.input_tokens_bound
        if exact is not None:
            bound = exact if _exceeds_bytes(call.texts, exact) else min(exact, bound)
        call = msgspec.structs.replace(call, input_tokens_bound=bound, texts=None)
        return msgspec.structs.replace(
            request, parsed=msgspec.structs.replace(request.parsed, call=call)
        )

    async def counted(self, org: str, texts: Texts) -> int | None:
        """The exact bound of texts; ``None`` when it cannot be had in time."""
        ready = self._ready.get(texts.tokenizer)
        if ready is not None and texts.size_bytes <= AT_ONCE_BYTES_MAX:
            return _soundly(texts, ready)
        if texts.size_bytes > BYTES_MAX:
            return None
        line = self._lines.setdefault(org, _Line())
        line.members += 1
        try:
            async with asyncio.timeout(self.wait_max_s), line.turn:
                counter = await self._counter(texts.tokenizer)
                if counter is None:
                    return None
                exact = await asyncio.wrap_future(self._threads.submit(_soundly, texts, counter))
        except TimeoutError:
            return None
        finally:
            line.members -= 1
            if not line.members:
                del self._lines[org]
        if not isinstance(texts.tokenizer, TokenizerFile):
            self._ready[texts.tokenizer] = counter
        return exact

    async def _counter(self, tokenizer: Tokenizer) -> Count | None:
        """What counts; ``None`` for a file that cannot be used."""
        if isinstance(tokenizer, TokenizerFile):
            return await self.files.counter(tokenizer)
        return partial(count, tokenizer)


def _exceeds_bytes(texts: Texts, exact: int) -> bool:
    """Whether the model's own tokenizer makes more tokens than bytes, as one may that decomposes characters (NFKC)."""
    is_file = isinstance(texts.tokenizer, TokenizerFile)
    return is_file and exact > texts.rest_tokens + texts.size_bytes


def _soundly(texts: Texts, counter: Count) -> int | None:
    try:
        return exact_bound(texts, counter)
    except BaseException as error:  # noqa: BLE001  # a tokenizer's panic is no Exception; the bytes bound as well
        _LOG.event(LogEvent.TOKENS_ROUGH, size_bytes=texts.size_bytes, cause=type(error).__name__)
        return None

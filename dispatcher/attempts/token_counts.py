"""Counts tokens where a backend did not: an exact tokenizer of the field, marked as an estimate.

Never used for holds, because no tokenizer bounds a foreign model. Counting happens beside the event
loop (the tokenizer releases the interpreter's lock) and is bounded in time and in texts that wait for
it; beyond either bound a token is taken for four bytes.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from dispatcher.upstream.tally import Tally, rough_tokens
from dispatcher.upstream.tokenizer import count_text
from schemas.log_events import LogEvent
from schemas.pricing.counts import TokenCounts
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

_AT_ONCE_MAX: Final = 4 * 1024
"""Characters or bytes that are counted in the loop: less than half a millisecond at the worst."""
_EXACT_TOKENS_MAX: Final = 250_000
"""Of one answer; beyond any model's output exactness is not worth the work."""
_WAITING_MAX: Final = 16
_WAIT_MAX_S: Final = 1.0
_S = TypeVar("_S", str, bytes)
_T = TypeVar("_T")


@dataclass(slots=True)
class TokenCounter:
    """Counts in threads of its own, two at most at once."""

    wait_max_s: float = _WAIT_MAX_S
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="tokens")
    )
    _waiting: int = 0

    async def estimate(
        self, count_input: Callable[[bytes], int], payload: bytes, output: Tally
    ) -> TokenCounts:
        """Tokens of the input in a request body and of the output produced so far. Never raises."""
        await self.fold(output)
        input_tokens = await self._counted(count_input, payload)
        return TokenCounts(input_tokens, output.tokens)

    async def fold(self, output: Tally) -> None:
        """Turn the text of the tally into a count. Never raises."""
        text = output.take()
        if output.tokens > _EXACT_TOKENS_MAX:
            output.tokens += rough_tokens(len(text))
        else:
            output.tokens += await self._counted(count_text, text)

    async def beside_the_loop(self, work: Callable[[_S], _T], on: _S) -> _T:
        """What ``work`` returns or raises, done in a thread."""
        return await asyncio.wrap_future(self._threads.submit(work, on))

    async def _counted(self, count: Callable[[_S], int], of: _S) -> int:
        """The count; a rough one when it cannot be had in time."""
        if len(of) <= _AT_ONCE_MAX:
            return _soundly(count, of)
        if self._waiting >= _WAITING_MAX:
            return rough_tokens(len(of))
        self._waiting += 1
        try:
            async with asyncio.timeout(self.wait_max_s):
                return await self.beside_the_loop(functools.partial(_soundly, count), of)
        except TimeoutError:
            return rough_tokens(len(of))
        finally:
            self._waiting -= 1


def _soundly(count: Callable[[_S], int], of: _S) -> int:
    """The count, or a rough one where ``of`` cannot be counted."""
    try:
        return count(of)
    except BaseException as error:  # noqa: BLE001  # a tokenizer's panic is no Exception, and costs an estimate only
        _LOG.event(LogEvent.TOKENS_ROUGH, size_bytes=len(of), cause=type(error).__name__)
        return rough_tokens(len(of))

"""Reads the tokenizer files of models beside the event loop, once each, and only those whose hash the model states.

A file stands in the directory that the process is told, so configuration makes it read nothing else, and nothing is
ever downloaded. One that cannot be used is told once for each reason and looked for again a minute later; until then
the bound by bytes stands.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from schemas.failures import Transient
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.tokenizers import Count, TokenizerFile

_LOG = EventLog(__name__)

FILE_BYTES_MAX: Final = 32 * 1024 * 1024
FILES_MAX: Final = 8
"""Kept at once; the one that was not asked for longest is forgotten."""
_AGAIN_S: Final = 60.0


class _Unusable(Transient):
    """A tokenizer file cannot be used now; the text says why."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What a look for a file gave: its tokenizer, or why there is none."""

    count: Count | None
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """One look for a file."""

    future: Future[_Loaded]
    began_s: float

    def is_over(self, now_s: float) -> bool:
        """Whether it found nothing, long enough ago."""
        is_vain = self.future.done() and self.future.result().count is None
        return is_vain and now_s - self.began_s >= _AGAIN_S


def parsed_tokenizer(content: bytes) -> Count:
    """What counts by a ``tokenizer.json``. Raises ``ImportError`` without the package, and what that raises."""
    package = importlib.import_module("tokenizers")
    as_text = package.Tokenizer.from_str(content.decode())
    if getattr(as_text.model, "dropout", None):
        raise _Unusable("it drops merges at random")
    texts = _counting(as_text, is_special_text=True)
    if not any(each.special for each in as_text.get_added_tokens_decoder().values()):
        return texts
    # Backends differ in whether a name of a special token in a text is that token: the larger count covers both.
    marks = _counting(package.Tokenizer.from_str(content.decode()), is_special_text=False)
    return lambda text: max(texts(text), marks(text))


def _counting(tokenizer: Any, *, is_special_text: bool) -> Count:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = is_special_text

    def count(text: str) -> int:
        # A batch, because that releases the interpreter's lock, and ``encode`` does not.
        return len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])

    return count


@dataclass(slots=True)
class TokenizerFiles:
    """The tokenizers of files, in a thread of their own."""

    directory: str = ""
    """Where they stand; none is read when it is empty."""
    parse: Callable[[bytes], Count] = parsed_tokenizer
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="tokenizer-file")
    )
    _kept: dict[TokenizerFile, _Kept] = field(default_factory=dict)

    async def counter(self, file: TokenizerFile) -> Count | None:
        """What counts by the file; ``None`` where it cannot be used. The caller bounds the wait."""
        now_s = asyncio.get_running_loop().time()
        kept = self._kept.pop(file, None)
        if kept is None or kept.is_over(now_s):
            if kept is None and not self._has_room():
                return None
            told = None if kept is None else kept.future.result().cause
            kept = _Kept(self._thread.submit(self._look, file, told), now_s)
        self._kept[file] = kept
        # Who waits no longer ends no look that others wait for.
        loaded = await asyncio.shield(asyncio.wrap_future(kept.future))
        return loaded.count

    def _has_room(self) -> bool:
        """Whether one more may be looked for; the oldest look that has ended gives way."""
        if len(self._kept) >= FILES_MAX:
            oldest = next((each for each, kept in self._kept.items() if kept.future.done()), None)
            if oldest is None:
                return False
            del self._kept[oldest]
        return True

    def _look(self, file: TokenizerFile, told: str | None) -> _Loaded:
        """One look, in the thread. Tells why it is in vain unless that was told."""
        try:
            return _Loaded(self.parse(_content(self.directory, file)))
        except (_Unusable, OSError, ImportError) as error:
            cause = str(error)
        except BaseException as error:  # noqa: BLE001  # a tokenizer's panic is no Exception; the bytes bound as well
            cause = f"not read as a tokenizer: {error}"
        if cause != told:
            _LOG.event(LogEvent.TOKENIZER_UNUSABLE, path=file.name, cause=cause)
        return _Loaded(None, cause)


def _content(directory: str, file: TokenizerFile) -> bytes:
    """The bytes of a file with the stated hash. Raises ``_Unusable`` and ``OSError``."""
    if not directory:
        raise _Unusable("no directory of tokenizers is configured")
    path = Path(directory, file.name)
    if not path.is_file():
        raise _Unusable("there is no such file")
    with path.open("rb") as opened:
        content = opened.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise _Unusable(f"it has more than {FILE_BYTES_MAX} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise _Unusable(f"its SHA-256 is {found}")
    return content

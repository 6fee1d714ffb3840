"""The tokenizer files of models: read once, only with the stated hash, and without them bytes bound (issue 11, Build 5)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from ingress.requests import tokenizer_files
from ingress.requests.exact_counts import ExactCounts
from ingress.requests.tokenizer_files import FILES_MAX, TokenizerFiles, parsed_tokenizer
from schemas.tokenizers import Count, TokenizerFile
from tests.support.counted_requests import counted_request

_NAME: Final = "own.json"


def _words(content: bytes) -> Count:
    """A tokenizer whose file says how many tokens each word has. Raises ``ValueError`` for garbage."""
    per_word = int(content)
    return lambda text: per_word * len(text.split())


def _file(directory: Path, content: bytes, name: str = _NAME) -> TokenizerFile:
    (directory / name).write_bytes(content)
    return TokenizerFile(name, hashlib.sha256(content).hexdigest())


async def _bound(
    files: TokenizerFiles, file: TokenizerFile, text: str, *, wait_max_s: float = 20
) -> int:
    counts = ExactCounts(wait_max_s=wait_max_s, files=files)
    return (await counts.bounded(counted_request(text, file))).parsed.call.input_tokens_bound


def _causes(caplog: pytest.LogCaptureFixture) -> list[Any]:
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    return [vars(record) for record in caplog.records]


async def test_a_file_with_the_stated_hash_bounds_the_texts(tmp_path: Path) -> None:
    """Three tokens for each of nine words, eight for the ends of a text, a hundred for all else."""
    file = _file(tmp_path, b"3")

    assert await _bound(TokenizerFiles(str(tmp_path), _words), file, "hello " * 9) == 27 + 8 + 100


async def test_a_tokenizer_that_makes_more_tokens_than_bytes_is_believed(tmp_path: Path) -> None:
    """It decomposes characters: bytes are no bound for it."""
    file = _file(tmp_path, b"50")

    assert await _bound(TokenizerFiles(str(tmp_path), _words), file, "hello") == 50 + 8 + 100


async def test_a_file_is_read_once(tmp_path: Path) -> None:
    """What lies there later changes no bound."""
    file, files = _file(tmp_path, b"3"), TokenizerFiles(str(tmp_path), _words)
    first = await files.counter(file)
    (tmp_path / _NAME).write_bytes(b"1")

    assert first is not None
    assert await files.counter(file) is first


async def test_those_who_ask_at_once_share_one_look(tmp_path: Path) -> None:
    """A file is not parsed for each of them."""
    file, files = _file(tmp_path, b"3"), TokenizerFiles(str(tmp_path), _words)

    assert len(set(await asyncio.gather(*(files.counter(file) for _ in range(9))))) == 1


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"4", "its SHA-256 is 4b227777"),
        (b"too large", "it has more than 8 bytes"),
        (None, "there is no such file"),
    ],
)
async def test_without_the_stated_file_bytes_bound_and_one_event_says_why(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    cause: str,
) -> None:  # a case
    """Another file would change the bounds without anybody's word."""
    monkeypatch.setattr(tokenizer_files, "FILE_BYTES_MAX", 8)
    file, files = _file(tmp_path, b"3"), TokenizerFiles(str(tmp_path), _words)
    (tmp_path / _NAME).unlink()
    if content is not None:
        (tmp_path / _NAME).write_bytes(content)

    for _ in range(3):
        assert await _bound(files, file, "hello " * 9) == 54 + 100
    assert len(caplog.records) == 1
    assert cause in str(_causes(caplog))


async def test_a_directory_is_no_file_and_without_a_setting_none_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Configuration alone makes a process read nothing."""
    file = _file(tmp_path, b"3")
    (tmp_path / "folder").mkdir()

    assert await TokenizerFiles("", _words).counter(file) is None
    assert await TokenizerFiles(str(tmp_path), _words).counter(TokenizerFile("folder", "")) is None
    assert len(caplog.records) == 2


async def test_garbage_bounds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of the stated hash, and no tokenizer."""
    assert await TokenizerFiles(str(tmp_path), _words).counter(_file(tmp_path, b"x")) is None
    assert "not read as a tokenizer" in str(_causes(caplog))


async def test_a_missing_package_bounds_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra, and said to be missing."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    assert await TokenizerFiles(str(tmp_path)).counter(_file(tmp_path, b"{}")) is None
    assert "tokenizers" in str(_causes(caplog))


async def test_a_file_that_was_missing_is_used_once_it_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked for again after a while; the same reason is not told again."""
    file, files = _file(tmp_path, b"3"), TokenizerFiles(str(tmp_path), _words)
    (tmp_path / _NAME).unlink()
    assert await files.counter(file) is None
    monkeypatch.setattr(tokenizer_files, "_AGAIN_S", 0.0)
    assert await files.counter(file) is None
    _file(tmp_path, b"3")

    assert await files.counter(file) is not None
    assert len(caplog.records) == 1


async def test_few_files_are_kept(tmp_path: Path) -> None:
    """The one that was not asked for longest gives way."""
    files = TokenizerFiles(str(tmp_path), _words)
    for number in range(FILES_MAX + 5):
        assert await files.counter(_file(tmp_path, b"3", f"{number}.json")) is not None

    assert [int(each.name.partition(".")[0]) for each in files._kept] == list(
        range(5, FILES_MAX + 5)
    )


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a slow file waits for, ten seconds at most."""
    may_go = threading.Event()
    yield may_go
    may_go.set()


async def test_a_file_that_is_read_for_long_keeps_nobody_waiting(
    tmp_path: Path, gate: threading.Event
) -> None:
    """Bytes bound until it is there; who waits no longer does not end the look."""
    looks: list[bytes] = []

    def slow(content: bytes) -> Count:
        looks.append(content)
        gate.wait(10)
        return _words(content)

    file, files = _file(tmp_path, b"3"), TokenizerFiles(str(tmp_path), slow)

    for _ in range(2):
        assert await _bound(files, file, "hello " * 9, wait_max_s=0.05) == 54 + 100
    gate.set()
    assert await _bound(files, file, "hello " * 9) == 27 + 8 + 100
    assert looks == [b"3"]


async def test_no_more_looks_wait_than_files_are_kept(
    tmp_path: Path, gate: threading.Event
) -> None:
    """Their queue has an end."""

    def slow(content: bytes) -> Count:
        gate.wait(10)
        return _words(content)

    files = TokenizerFiles(str(tmp_path), slow)
    asked = [_file(tmp_path, b"3", f"{number}.json") for number in range(FILES_MAX)]
    looks = [asyncio.create_task(files.counter(file)) for file in asked]
    await asyncio.sleep(0)

    assert await files.counter(_file(tmp_path, b"3", "more.json")) is None
    gate.set()
    assert None not in await asyncio.gather(*looks)


async def test_even_a_short_text_is_counted_beside_the_loop(tmp_path: Path) -> None:
    """Four kilobytes take such a tokenizer milliseconds."""
    threads: list[str] = []

    def count(text: str) -> int:
        threads.append(threading.current_thread().name)
        return len(text) // 4

    file, files = _file(tmp_path, b"3"), TokenizerFiles(str(tmp_path), lambda _: count)
    counts = ExactCounts(wait_max_s=20, files=files)

    for _ in range(2):
        await counts.bounded(counted_request("hello", file))
    assert [name.partition("_")[0] for name in threads] == ["exact", "exact"]


def _byte_level(merges: Iterable[tuple[str, str]], **more: Any) -> bytes:
    """A ``tokenizer.json``: byte-level BPE of the letters of these merges, and one special token."""
    pairs = list(merges)
    letters = sorted({*"<|end>abcdefghijklmnopqrstuvwxyz\u0120"})
    words = [*letters, *(left + right for left, right in pairs)]
    level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    special = {
        "id": len(words), "content": "<|end|>", "single_word": False, "lstrip": False,
        "rstrip": False, "normalized": False, "special": True,
    }  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "vocab": {word: at for at, word in enumerate(words)}, "merges": list(map(" ".join, pairs)),
        **more.pop("model", {}),
    }  # fmt: skip
    whole = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special],
        "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": model, **more,
    }  # fmt: skip
    return json.dumps(whole).encode()


_MERGES: Final = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("\u0120", "hello")]
_CUT: Final = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}


class TestByThePackage:
    """With the package itself, where it is installed: `pip install 'tallygate[tokenizers]'`."""

    @pytest.fixture(autouse=True)
    def package(self) -> None:
        pytest.importorskip("tokenizers", reason="the extra tallygate[tokenizers] is missing here")

    @pytest.mark.parametrize(
        ("text", "tokens"),
        [("", 0), ("hello", 1), ("hello hello hello", 3), ("hell", 1), ("hex", 2)],
    )
    def test_texts_have_the_tokens_that_merges_leave(self, text: str, tokens: int) -> None:
        """Counted by hand from five merges."""
        assert parsed_tokenizer(_byte_level(_MERGES))(text) == tokens

    def test_the_name_of_a_special_token_counts_as_text_where_that_is_more(self) -> None:
        """Seven characters and no merges; a backend may or may not read one token there."""
        assert parsed_tokenizer(_byte_level(_MERGES))("<|end|>") == 7

    def test_a_file_that_truncates_counts_all_of_a_text(self) -> None:
        """The model does not truncate what it bills."""
        cut = _byte_level(_MERGES, truncation=_CUT)

        assert parsed_tokenizer(cut)("hello hello hello hello") == 4

    async def test_it_bounds_a_request(self, tmp_path: Path) -> None:
        """Nine hundred words."""
        file = _file(tmp_path, _byte_level(_MERGES))
        text = "hello" + " hello" * 899

        assert await _bound(TokenizerFiles(str(tmp_path)), file, text) == 900 + 8 + 100

    @pytest.mark.parametrize(
        "content",
        [b"{}", b"\xff", b"[1]", _byte_level(_MERGES, model={"dropout": 0.5})],
    )
    async def test_what_is_no_sound_tokenizer_is_not_used(
        self, tmp_path: Path, content: bytes
    ) -> None:
        """Garbage, and one that drops merges at random."""
        assert await TokenizerFiles(str(tmp_path)).counter(_file(tmp_path, content)) is None

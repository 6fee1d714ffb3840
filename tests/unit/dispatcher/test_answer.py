"""One answer on the wire is read as RFC 9112 has it, however it is cut into pieces, or refused within bounds."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest

from dispatcher.upstream.answer import (
    ANSWER_BYTES_MAX,
    HEADERS_MAX,
    HEADS_MAX,
    LINE_BYTES_MAX,
    Answer,
    AnswerBroken,
)

_OK = b"HTTP/1.1 200 OK\r\n"
_LENGTH = _OK + b"Content-Length: 5\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_GOOD = _LENGTH + b"\r\nhello"


class _Transport:
    """Knows whether it is read."""

    is_paused = False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_closing(self) -> bool:
        return False


def _answer(transport: _Transport | None = None) -> Answer:
    return Answer(cast("asyncio.Transport", transport or _Transport()))


def _fed(sent: bytes, size: int, *, ends: bool) -> Answer:
    answer = _answer()
    for at in range(0, len(sent), size):
        answer.feed(sent[at : at + size])
    if ends:
        answer.ended(AnswerBroken("disconnected"))
    return answer


async def _read(answer: Answer) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection may be used again."""
    await answer.head()
    body = b""
    while received := await answer.read():
        body += received
    return answer.status, body, answer.is_reusable


WHOLE: dict[str, tuple[bytes, bytes, bool]] = {
    "a length": (_GOOD, b"hello", True),
    "no body": (_OK + b"Content-Length: 0\r\n\r\n", b"", True),
    "chunks": (_CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello", True),
    "chunk extensions": (_CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n', b"hello", True),
    "a long extension": (_CHUNKED + b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", b"hello", True),
    "blanks behind a size": (_CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", b"hello", True),
    "capital sizes": (_CHUNKED + b"A\r\nhellohello\r\n0\r\n\r\n", b"hellohello", True),
    "trailers": (_CHUNKED + b"5\r\nhello\r\n0\r\nContent-Encoding: gzip\r\nX: y\r\n\r\n", b"hello", True),
    "interim answers": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + _GOOD, b"hello", True),
    "an interim answer with a header of the next": (
        b"HTTP/1.1 103 Hints\r\nContent-Encoding: br\r\n\r\n" + _GOOD, b"hello", True),
    "bare line feeds": (_GOOD.replace(b"\r\n", b"\n"), b"hello", True),
    "a folded header": (_LENGTH + b"X: a\r\n b\r\n\tc\r\n\r\nhello", b"hello", True),
    "headers twice": (_LENGTH + b"Set-Cookie: a\r\nSet-Cookie: b\r\n\r\nhello", b"hello", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    "says close": (_LENGTH + b"Connection: close\r\n\r\nhello", b"hello", False),
    "HTTP/1.0": (_GOOD.replace(b"1.1", b"1.0"), b"hello", False),
    "HTTP/1.0 that stays": (
        _LENGTH.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\nhello", b"hello", True),
    "a refused upgrade": (_LENGTH + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\nhello", b"hello", True),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(("sent", "body", "stays"), WHOLE.values(), ids=WHOLE)
async def test_an_answer_is_whole_however_it_is_cut(
    sent: bytes, body: bytes, stays: bool, size: int
) -> None:
    """Its end is known from itself; no header of an interim answer or trailer is taken for its own."""
    answer = _fed(sent, size, ends=False)

    assert await _read(answer) == (200, body, stays)
    assert answer.header(b"content-encoding") is None


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none(status: int) -> None:
    """Whatever length it names (RFC 9112, 6.3)."""
    answer = _fed(b"HTTP/1.1 %d x\r\nContent-Length: 5\r\n\r\n" % status, 100, ends=False)

    assert await _read(answer) == (status, b"", True)


async def test_a_switch_of_protocols_ends_the_connection() -> None:
    """Nobody asked for it."""
    head = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"

    assert await _read(_fed(head + b"\x00\x01", 1_000, ends=False)) == (101, b"", False)


UNTIL_CLOSE: dict[str, bytes] = {
    "no length": _OK + b"\r\nhello",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "another coding is last": _OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nhello",
}


@pytest.mark.parametrize("sent", UNTIL_CLOSE.values(), ids=UNTIL_CLOSE)
async def test_a_body_without_length_ends_with_its_connection(sent: bytes) -> None:
    """And not before."""
    answer = _fed(sent, 3, ends=False)
    assert not answer.is_complete
    answer.ended(AnswerBroken("disconnected"))

    assert await _read(answer) == (200, b"hello", False)


TORN: dict[str, tuple[bytes, bytes]] = {
    "in a length": (_LENGTH + b"\r\nhel", b"hel"),
    "in a chunk": (_CHUNKED + b"5\r\nhel", b"hel"),
    "between chunks": (_CHUNKED + b"3\r\nhel\r\n", b"hel"),
    "before the last chunk's end": (_CHUNKED + b"3\r\nhel\r\n0\r\n", b"hel"),
    "by a bad size": (_CHUNKED + b"3\r\nhel\r\nxyz\r\n", b"hel"),
    "by a negative size": (_CHUNKED + b"3\r\nhel\r\n-1\r\n", b"hel"),
    "by a size beyond all numbers": (_CHUNKED + b"3\r\nhel\r\n" + b"f" * 40 + b"\r\n", b"hel"),
    "by a trailer without end": (_CHUNKED + b"3\r\nhel\r\n0\r\nX: " + b"y" * 100_000, b"hel"),
    "by too many trailers": (_CHUNKED + b"3\r\nhel\r\n0\r\n" + b"X: y\r\n" * 200, b"hel"),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize(("sent", "came"), TORN.values(), ids=TORN)
async def test_what_came_of_a_torn_body_is_handed_out_before_the_error(
    sent: bytes, came: bytes, size: int
) -> None:
    """It may have been all that mattered."""
    answer = _fed(sent, size, ends=True)
    await answer.head()

    body = b""
    while len(body) < len(came):
        body += await answer.read()
    with pytest.raises(AnswerBroken):
        await answer.read()
    assert (body, answer.is_reusable) == (came, False)


REFUSED: dict[str, bytes] = {
    "nothing": b"",
    "half a head": _LENGTH,
    "no HTTP": b"SSH-2.0-x\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "both lengths": _LENGTH + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "both lengths, turned": _OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": _LENGTH + b"Content-Length: 6\r\n\r\nhello!",
    "the same length twice": _LENGTH + b"Content-Length: 5\r\n\r\nhello",
    "no number": _OK + b"Content-Length: 5x\r\n\r\nhello",
    "a negative length": _OK + b"Content-Length: -5\r\n\r\nhello",
    "a length beyond all numbers": _OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nhello",
    "a null byte": _LENGTH + b"X: a\0b\r\n\r\nhello",
    "no colon": _LENGTH + b"nothing of the kind\r\n\r\nhello",
    "a long reason": b"HTTP/1.1 200 " + b"x" * (LINE_BYTES_MAX + 1) + b"\r\n\r\n",
    "a long header": _LENGTH + b"X: " + b"y" * LINE_BYTES_MAX + b"\r\n\r\nhello",
    "a header without end": _LENGTH + b"X: " + b"y" * 1_000_000,
    "a header in many folds": _LENGTH + b"X: y" + b"\r\n y" * 300_000,
    "line ends without end": b"\r\n" * 100_000,
    "too many headers": _OK + b"X: y\r\n" * (HEADERS_MAX + 1) + b"\r\n",
    "too many interim answers": b"HTTP/1.1 100 x\r\n\r\n" * (HEADS_MAX + 1) + _GOOD,
}


@pytest.mark.parametrize("size", [3, 262_144])
@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
async def test_what_is_no_answer_is_refused_at_once(sent: bytes, size: int) -> None:
    """Nothing of it is kept, and nobody is held up by it."""
    began_s = time.process_time()
    answer = _fed(sent[: 30_000 if size == 3 else None], size, ends=True)

    with pytest.raises(AnswerBroken):
        await answer.head()
    assert not answer.is_reusable
    assert time.process_time() - began_s < 0.5


@pytest.mark.parametrize(
    "surplus", [_GOOD, b"HTTP/1.1 ", b"garbage", b"\x00" * 70_000], ids=["answer", "begun", "garbage", "much"]
)  # fmt: skip
async def test_what_follows_an_answer_is_not_taken_for_the_next_one(surplus: bytes) -> None:
    """The answer stands, its connection is thrown away."""
    for size in (len(_GOOD) + len(surplus), len(_GOOD)):
        assert await _read(_fed(_GOOD + surplus, size, ends=False)) == (200, b"hello", False)


async def test_an_answer_has_no_more_bytes_than_any_may_have() -> None:
    """On the wire, whatever they are."""
    answer = _answer()
    answer.feed(_CHUNKED + b"5;")
    piece = b"x" * 1_048_576
    for _ in range(ANSWER_BYTES_MAX // len(piece)):
        answer.feed(piece)

    with pytest.raises(AnswerBroken, match="bytes"):
        await answer.read()


async def test_a_body_that_nobody_takes_is_not_read_on() -> None:
    """And is once somebody does."""
    transport = _Transport()
    answer = _answer(transport)
    answer.feed(_OK + b"Content-Length: 400000\r\n\r\n" + b"x" * 200_000)
    paused = [transport.is_paused]
    assert len(await answer.read()) == 200_000
    paused.append(transport.is_paused)
    assert paused == [True, False]
    answer.feed(b"x" * 200_000)

    assert len(await answer.read()) == 200_000
    assert (await answer.read(), answer.is_reusable) == (b"", True)


async def test_the_first_of_two_headers_of_a_name_counts() -> None:
    """Its name in any case, without the blanks around its value."""
    answer = _fed(_LENGTH + b"RETRY-AFTER:  3 \r\nRetry-After: 5\r\n\r\nhello", 1, ends=False)

    assert answer.header(b"retry-after") == "3"


async def test_a_reader_is_woken_when_something_comes() -> None:
    """Head, pieces, end."""
    answer = _answer()
    reading = asyncio.create_task(_read(answer))
    for sent in (_LENGTH, b"\r\n", b"he", b"llo"):
        await asyncio.sleep(0)
        answer.feed(sent)

    assert await reading == (200, b"hello", True)

"""Counting exactly beside the loop: within bounds of bytes and time, and in turn for each organization."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from ingress.apis.exact_bound import Texts
from ingress.requests import exact_counts
from ingress.requests.exact_counts import AT_ONCE_BYTES_MAX, BYTES_MAX, ExactCounts
from ingress.requests.validation import ValidatedRequest
from schemas.tokenizers import Count
from tests.support.counted_requests import counted_request

_WORD = "hello "


def _request(size_bytes: int, org: str = "acme") -> ValidatedRequest:
    """A request of so many bytes of text, all of it bound by bytes."""
    text = (_WORD * (size_bytes // len(_WORD) + 1))[:size_bytes]
    return counted_request(text, "o200k_base", org)


def _bound(request: ValidatedRequest) -> int:
    assert request.parsed.call.texts is None, "what waits for an answer holds no text"
    return request.parsed.call.input_tokens_bound


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Counting waits until the event is set, ten seconds at most."""
    may_go = threading.Event()

    def wait(texts: Texts, _: Count) -> int:
        may_go.wait(10)
        return texts.rest_tokens

    monkeypatch.setattr(exact_counts, "exact_bound", wait)
    yield may_go
    may_go.set()


@pytest.mark.parametrize("size_bytes", [AT_ONCE_BYTES_MAX, AT_ONCE_BYTES_MAX + 1, BYTES_MAX])
async def test_a_text_is_counted_in_or_beside_the_loop(size_bytes: int) -> None:
    """A sixth of a token for each byte of this text, and the rest."""
    counts = ExactCounts(wait_max_s=20)

    for _ in range(2):
        assert _bound(await counts.bounded(_request(size_bytes))) < size_bytes / 5 + 200


async def test_what_is_too_large_keeps_the_bound_of_its_bytes() -> None:
    """Nobody's text costs more than a quarter of a second."""
    request = _request(BYTES_MAX + 1)
    began_s = time.monotonic()

    assert _bound(await ExactCounts().bounded(request)) == BYTES_MAX + 101
    assert time.monotonic() - began_s < 1


async def test_a_request_without_texts_is_left_alone() -> None:
    """It is the very same."""
    request = await ExactCounts().bounded(_request(10))

    assert await ExactCounts().bounded(request) is request


async def test_a_count_that_takes_too_long_keeps_the_bound_of_its_bytes(
    slow: threading.Event,
) -> None:
    """The client is not kept waiting for it."""
    assert not slow.is_set()

    assert _bound(await ExactCounts(wait_max_s=0.05).bounded(_request(50_000))) == 50_100


async def test_a_tokenizer_that_breaks_keeps_the_bound_of_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A panic of its is no Exception."""

    def panic(*_: object) -> int:
        raise BaseException  # noqa: TRY002  # as the bindings of a tokenizer raise it

    monkeypatch.setattr(exact_counts, "count", panic)

    assert _bound(await ExactCounts().bounded(_request(50_000))) == 50_100


async def test_one_organization_takes_one_place(slow: threading.Event) -> None:
    """Others are counted beside it."""
    counts = ExactCounts(wait_max_s=20)
    loud = [asyncio.create_task(counts.bounded(_request(50_000, "loud"))) for _ in range(5)]
    await asyncio.sleep(0.05)
    under_way = counts._threads._work_queue.qsize()  # what waits for a thread
    quiet = asyncio.create_task(counts.bounded(_request(50_000, "quiet")))
    await asyncio.sleep(0.05)
    slow.set()

    assert under_way == 0
    assert {_bound(each) < 50_000 for each in await asyncio.gather(*loud, quiet)} == {True}
    assert not counts._lines  # nobody is remembered

"""Counting tokens where a backend did not."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from dispatcher.attempts.token_counts import TokenCounter
from dispatcher.operations.chat import count_input
from dispatcher.upstream.tally import Tally, rough_tokens
from dispatcher.upstream.tokenizer import count_text
from schemas.pricing.counts import TokenCounts


def _payload(*messages: dict[str, Any]) -> bytes:
    return json.dumps({"messages": messages}).encode()


async def _estimate(
    payload: bytes, output: str, counter: TokenCounter | None = None
) -> TokenCounts:
    tally = Tally()
    tally.add(output)
    return await (counter or TokenCounter()).estimate(count_input, payload, tally)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("hello", 1), ("hello world", 2)])
def test_text_is_counted_exactly(text: str, tokens: int) -> None:
    """With the o200k_base encoding, offline."""
    assert count_text(text) == tokens


async def test_all_texts_of_a_request_count_as_input() -> None:
    """Plain content and text parts; images and tool calls have no text."""
    payload = _payload(
        {"role": "system", "content": "hello"},
        {"role": "user", "content": [{"type": "text", "text": "world"}, {"type": "image_url"}]},
        {"role": "assistant", "content": None},
    )

    assert await _estimate(payload, "hello world") == TokenCounts(count_text("hello\nworld"), 2)


async def test_a_body_without_messages_has_no_input() -> None:
    """It is counted, not refused."""
    assert await _estimate(b"{}", "") == TokenCounts(0, 0)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"[" * 100_000, b'{"messages": 5}', b"[5]"],
    ids=["nothing", "no UTF-8", "deep", "no list", "no body"],
)
async def test_what_cannot_be_counted_is_counted_roughly(payload: bytes) -> None:
    """A request is never lost because it cannot be counted."""
    assert (await _estimate(payload, "")).input_tokens == rough_tokens(len(payload))


async def test_text_with_half_a_surrogate_is_counted() -> None:
    """The tokenizer knows only Unicode's characters."""
    assert (await _estimate(b"{}", "a\ud800b")).output_tokens > 0


async def test_counting_four_mebibytes_does_not_hold_the_loop_up() -> None:
    """Others are served meanwhile: the longest pause is a part of it, also on a busy machine."""
    payload = _payload({"role": "user", "content": "aB1 \n" * 800_000})
    counting = asyncio.create_task(_estimate(payload, ""))
    began_s = last_s = time.monotonic()
    longest_s = 0.0
    while not counting.done():
        await asyncio.sleep(0.001)
        longest_s, last_s = max(longest_s, time.monotonic() - last_s), time.monotonic()

    assert (await counting).input_tokens > 1_000_000
    assert longest_s < (last_s - began_s) / 2


async def test_counting_that_takes_too_long_ends_in_a_rough_count() -> None:
    """An attempt ends in time."""
    payload = _payload({"role": "user", "content": "aB1 \n" * 400_000})

    counted = await _estimate(payload, "", TokenCounter(wait_max_s=0.001))
    assert counted.input_tokens == rough_tokens(len(payload))


async def test_more_texts_than_may_wait_are_counted_roughly() -> None:
    """The queue in front of the threads is bounded."""
    payload = _payload({"role": "user", "content": "aB1 \n" * 100_000})
    counter = TokenCounter()
    counts = await asyncio.gather(*(_estimate(payload, "", counter) for _ in range(40)))

    assert {c.input_tokens == rough_tokens(len(payload)) for c in counts} == {True, False}


async def test_a_tally_holds_a_bounded_text() -> None:
    """What was counted is kept as a number."""
    tally, counter = Tally(), TokenCounter()
    for _ in range(1_000):
        tally.add("hello " * 100)
        if tally.is_full:
            await counter.fold(tally)

    assert len(tally.take()) < 70_000
    assert 80_000 < tally.tokens <= 101_000

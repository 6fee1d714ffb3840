"""What an attempt books of what its backend says, or does not say, that it used (faults.md C8, C9; design §14.16)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.upstream.tokenizer import count_text
from schemas.events import Attempt
from tests.support.attempt_scene import FakeBus, attempt_run
from tests.support.events import accepted
from tests.support.scripted_backend import (
    Answer,
    answering,
    backend,
    choice_of,
    streaming,
    upstreams,
)

ARGUMENTS = json.dumps({"query": "the quick brown fox jumps over the lazy dog " * 12})
CALL = {
    "index": 0,
    "id": "t1",
    "type": "function",
    "function": {"name": "search", "arguments": ARGUMENTS},
}
THOUGHTS = "the quick brown fox " * 40
TOOLS = [
    {"type": "function", "function": {"name": "search", "description": "look things up " * 20}}
]
DONE = b"data: [DONE]\n\n"


def _event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def _delta(finish: str | None = None, **delta: Any) -> bytes:
    return _event(id="c1", choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


async def _booked(answer: Answer, **request: Any) -> Attempt:
    async with backend(answer) as url, upstreams() as client:
        run = attempt_run(client, choice_of(url), accepted(**request), FakeBus())
        return (await run.run()).attempt


def _whole(usage: Any = None, **message: Any) -> Answer:
    said = {"role": "assistant", "content": "42"} | message
    body = {"id": "c1", "choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}
    return answering(200, json.dumps(body | ({"usage": usage} if usage else {})).encode())


WITHOUT_USAGE = {
    "a tool call": (_whole(content=None, tool_calls=[CALL]), False, ARGUMENTS),
    "a tool call, streamed": (
        streaming(_delta(role="assistant", tool_calls=[CALL]), _delta("tool_calls"), DONE), True, ARGUMENTS),
    "reasoning": (_whole(reasoning_content=THOUGHTS), False, THOUGHTS),
    "reasoning, streamed": (
        streaming(_delta(reasoning_content=THOUGHTS), _delta("stop", content="42"), DONE), True, THOUGHTS),
    "a refusal": (_whole(content=None, refusal=THOUGHTS), False, THOUGHTS),
    "zeros": (
        _whole({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, content=THOUGHTS),
        False, THOUGHTS),
    "an input alone": (
        _whole({"prompt_tokens": 11, "completion_tokens": None, "total_tokens": 11}, content=THOUGHTS),
        False, THOUGHTS),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "stream", "said"), WITHOUT_USAGE.values(), ids=WITHOUT_USAGE)
async def test_what_no_backend_counted_is_estimated_whatever_field_it_stands_in(
    answer: Answer, stream: bool, said: str
) -> None:
    """A call with a hundred tokens of arguments is not free."""
    booked = await _booked(answer, stream=stream)

    assert booked.estimated
    assert count_text(said) - 2 <= booked.output_tokens <= count_text(said) + 10


async def test_definitions_of_tools_are_estimated_as_input() -> None:
    """The model reads them."""
    messages = [{"role": "user", "content": "hello"}]
    bodies = [{"messages": messages}, {"messages": messages, "tools": TOOLS}]
    plain, with_tools = [
        await _booked(_whole(), payload=json.dumps(body).encode()) for body in bodies
    ]

    assert plain.input_tokens == 1
    assert with_tools.input_tokens > count_text("look things up " * 20)


XAI = {
    "prompt_tokens": 32,
    "completion_tokens": 9,
    "total_tokens": 135,
    "completion_tokens_details": {"reasoning_tokens": 94},
}
PLAIN = {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32}
SAID = {
    "usage of a whole answer": (_whole(XAI), False, (32, 103, 94)),
    "usage in the last event": (
        streaming(_delta(content="42"), _delta("stop"), _event(choices=[], usage=XAI), DONE), True, (32, 103, 94)),
    "usage that grows with each event (vLLM)": (
        streaming(
            _event(choices=[{"delta": {"content": "4"}}], usage=PLAIN | {"completion_tokens": 1, "total_tokens": 20}),
            _event(choices=[{"delta": {"content": "2"}}], usage=PLAIN | {"completion_tokens": 2, "total_tokens": 21}),
            _event(choices=[], usage=PLAIN), DONE), True, (19, 13, 0)),
    "usage in the last choice (Moonshot)": (
        streaming(
            _delta(content="42"),
            _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop", "usage": PLAIN}]), DONE),
        True, (19, 13, 0)),
    "x_groq": (
        streaming(
            _delta(content="42"),
            _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], x_groq={"usage": PLAIN}), DONE),
        True, (19, 13, 0)),
    "timings of llama.cpp": (
        streaming(
            _delta(content="42"),
            _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}],
                   timings={"cache_n": 0, "prompt_n": 19, "predicted_n": 13}), DONE),
        True, (19, 13, 0)),
    "zeros after counts": (
        streaming(
            _delta(content="42"), _event(choices=[], usage=PLAIN),
            _event(choices=[], usage={"prompt_tokens": 19, "completion_tokens": 0, "total_tokens": 19}), DONE),
        True, (19, 13, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "stream", "counts"), SAID.values(), ids=SAID)
async def test_a_backends_own_counts_are_booked_wherever_they_stand(
    answer: Answer, stream: bool, counts: tuple[int, int, int]
) -> None:
    """Exact, and priced as they are."""
    booked = await _booked(answer, stream=stream)

    assert (booked.input_tokens, booked.output_tokens, booked.reasoning_tokens) == counts
    assert not booked.estimated
    assert booked.cost_nano_usd == 2_000 * counts[0] + 6_000 * counts[1]


async def test_real_use_above_the_hold_is_booked_as_it_was_said() -> None:
    """The limit was 5, the backend made 900 (case B17)."""
    usage = {"prompt_tokens": 11, "completion_tokens": 900, "total_tokens": 911}

    booked = await _booked(_whole(usage), output_tokens_bound=5)

    assert (booked.input_tokens, booked.output_tokens, booked.told_output_tokens) == (11, 900, None)
    assert not booked.estimated


async def test_impossible_use_is_booked_at_the_bound_and_what_was_said_is_kept() -> None:
    """Nobody can have made as much."""
    usage = {"prompt_tokens": 11, "completion_tokens": 10**12, "total_tokens": 10**12 + 11}

    booked = await _booked(_whole(usage), output_tokens_bound=5)

    assert (booked.input_tokens, booked.output_tokens) == (11, 5)
    assert (booked.told_input_tokens, booked.told_output_tokens) == (11, 10**12)

"""Text completions are asked for under their one name of the limit, and read as chat completions are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.operations.dialect import AS_IT_IS, Dialect
from dispatcher.operations.other_form import chunks_of, completion_of
from dispatcher.operations.text_completions import BINDING, count_input, encode
from dispatcher.work import Choice
from schemas.entities import Backend

_USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
_LOGPROBS = {"tokens": ["a", "b"], "token_logprobs": [-1.0, -2.0]}


def _whole(**more: Any) -> dict[str, Any]:
    choice = {"index": 0, "text": "hello there", "finish_reason": "stop", "logprobs": _LOGPROBS}
    known = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    return {**known, "choices": [choice], **more}


def _event(text: str, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": reason, **more}
    body = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**body, "choices": [choice]}).encode() + b"\n\n"


def test_a_whole_answer_is_relayed_and_its_usage_read() -> None:
    """Its text is what is counted where nobody else counts."""
    body = json.dumps(_whole(usage=_USAGE)).encode()
    answer, relayed = BINDING.read(body)

    assert relayed == body
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 4)
    assert answer.output.take() == "hello there"


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_stream_is_whole_once_each_choice_has_ended(wants_usage: bool) -> None:
    """The usage chunk goes to who asked for it."""
    assert BINDING.stream is not None
    reader = BINDING.stream(wants_usage)
    usage = b"data: " + json.dumps({"choices": [], "usage": _USAGE}).encode() + b"\n\n"

    relayed = reader.feed(_event("hello ") + _event("there"))
    has_ended = reader.has_ended
    assert not has_ended
    relayed += reader.feed(_event("", "stop") + usage)

    has_ended = reader.has_ended
    assert has_ended
    assert relayed.count(b"data: ") == (4 if wants_usage else 3)
    answer = reader.answer()
    assert answer.usage is not None
    assert answer.usage.output_tokens == 4
    assert answer.output.take() == "hello there"


def test_odd_choices_lose_nothing_else() -> None:
    """Texts of any type are relayed; what is no text counts as none."""
    body = json.dumps(_whole(choices=[7, {"text": 5}, {"text": ["a"]}, {"text": "b"}])).encode()
    answer, relayed = BINDING.read(body)

    assert relayed == body
    assert answer.output.take() == "b"


def test_an_answer_of_the_other_form_is_turned() -> None:
    """Texts and logprobs go on from event to event, and the object is of its own kind in both forms."""
    events = (
        _event("hello ", logprobs={"tokens": ["a"], "token_logprobs": [-1.0]})
        + _event("there", logprobs={"tokens": ["b"], "token_logprobs": [-2.0]})
        + _event("", "stop", logprobs=None)
        + b"data: [DONE]\n\n"
    )

    assert json.loads(completion_of(events)) == _whole()
    chunk, usage, _ = chunks_of(json.dumps(_whole(usage=_USAGE)).encode(), with_usage=True).split(
        b"\n\n"
    )
    assert json.loads(chunk.removeprefix(b"data: ")) == _whole()
    assert json.loads(usage.removeprefix(b"data: ")) == _whole(choices=[], usage=_USAGE)


def test_what_chat_completions_taught_of_the_limit_is_not_said_here() -> None:
    """There is no other name of it; where nobody counts on it, it is still left out."""
    asked = b'{"model":"m","prompt":"hi","max_tokens":9,"stream_options":{}}'

    def sent(dialect: Dialect) -> Any:
        return json.loads(
            encode(asked, Choice("b1", Backend(url="http://127.0.0.1:9"), None), dialect)
        )

    assert sent(AS_IT_IS)["max_tokens"] == 9
    other = sent(Dialect(limit="max_completion_tokens", stream_options=False))
    assert other == {"model": "m", "prompt": "hi", "max_tokens": 9}
    assert "max_tokens" not in sent(Dialect(limit="none"))


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("hello world", 2), (["hello", "world"], 2), ([7, 8, 9], 3), ([[7], [8, 9]], 3), ("", 0)],
)
def test_the_input_is_counted(prompt: Any, tokens: int) -> None:
    """Texts exactly, tokens by their number; what is to follow counts too."""
    assert count_input(json.dumps({"prompt": prompt}).encode()) == tokens
    assert count_input(json.dumps({"prompt": prompt, "suffix": "end"}).encode()) == tokens + 1

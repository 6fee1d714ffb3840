"""The questions of the conformance kit: what is asked of a backend, how its answer is judged, what it may spend. Pure.

A question is a value: a name, a request, a judge. The table is in three parts, because what a model is called is
learned from the first and which field bounds an answer from the second; within a part the order means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from deploy.conformance import judging
from deploy.conformance.judging import Judge

__all__ = [
    "LIMIT_FIELDS",
    "LimitField",
    "Question",
    "Spend",
    "about_chat",
    "about_limits",
    "about_models",
    "about_rest",
    "spend",
]

LimitField: TypeAlias = Literal["max_tokens", "max_completion_tokens"]
LIMIT_FIELDS: Final[tuple[LimitField, ...]] = ("max_tokens", "max_completion_tokens")

_CHAT: Final = "chat/completions"
_LIMIT_TOKENS: Final = 16
"""OpenAI's smallest for its newer models."""
_TOOL_TOKENS: Final = 64
_LONG: Final = "Write the numbers from 1 to 100 in words."
_SHORT: Final = "Say yes."
_NO_MODEL: Final = "tallygate-check-no-such-model"
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "report",
        "description": "Reports a state.",
        "parameters": {
            "type": "object",
            "properties": {"state": {"type": "string", "enum": ["on", "off"]}},
            "required": ["state"],
        },
    },
}


@dataclass(frozen=True)
class Question:
    """One request and the judge of its answer."""

    name: str
    judge: Judge
    body: bytes | None = None
    """``None`` is a GET."""
    path: str = _CHAT
    output_tokens: int = 0
    """The bound that it states, where one can be spent."""


@dataclass(frozen=True)
class Spend:
    """What the questions may cost at most, if a backend answers all of them and keeps to the bounds they state."""

    questions: int
    input_tokens: int
    """Counted as bytes of the requests, which no tokenizer exceeds."""
    output_tokens: int


def spend(questions: Iterable[Question]) -> Spend:
    """The sum over questions."""
    asked = list(questions)
    sent = sum(len(each.body or b"") for each in asked if each.output_tokens)
    return Spend(len(asked), sent, sum(each.output_tokens for each in asked))


def about_models() -> Question:
    """The one that needs no model."""
    return Question("models", judging.judge_models, path="models")


def about_limits(model: str) -> tuple[Question, ...]:
    """Which field bounds an answer; each is a JSON completion too, and shows what that looks like."""
    return tuple(
        Question(
            name,
            judging.judge_limit(name, _LIMIT_TOKENS),
            _chat(model, _LONG, **{name: _LIMIT_TOKENS}),
            output_tokens=_LIMIT_TOKENS,
        )
        for name in LIMIT_FIELDS
    )


def about_chat(model: str) -> Question:
    """A completion that nothing bounds but its prompt, for a backend that takes neither field."""
    body = _chat(model, _SHORT)
    return Question("chat", judging.judge_chat, body, output_tokens=_LIMIT_TOKENS)


def about_rest(
    model: str, limit_field: LimitField | None, context_tokens: int | None = None
) -> tuple[Question, ...]:
    """All others, bounded by the field that works; a prompt above the model's context only where that is known."""
    bound: dict[str, Any] = {} if limit_field is None else {limit_field: _LIMIT_TOKENS}
    tool_bound: dict[str, Any] = {} if limit_field is None else {limit_field: _TOOL_TOKENS}
    stream: dict[str, Any] = {"stream": True, **bound}
    usage = {"stream_options": {"include_usage": True}}

    def costs(name: str, judge: Judge, body: bytes, tokens: int = _LIMIT_TOKENS) -> Question:
        return Question(name, judge, body, output_tokens=tokens)

    asked = (
        costs(
            "stream with stream_options",
            judging.judge_stream(asked_for_usage=True),
            _chat(model, _SHORT, **stream, **usage),
        ),
        costs(
            "stream", judging.judge_stream(asked_for_usage=False), _chat(model, _SHORT, **stream)
        ),
        costs(
            "tools",
            judging.judge_tools,
            _chat(model, "Report on.", tools=[_TOOL], tool_choice="required", **tool_bound),
            _TOOL_TOKENS,
        ),
        costs(
            "unknown field",
            judging.judge_field("unknown field"),
            _chat(model, _SHORT, tallygate_check=True, **bound),
        ),
        costs("wrong model", judging.judge_error("wrong model"), _chat(_NO_MODEL, _SHORT, **bound)),
        costs(
            "wrong value",
            judging.judge_error("wrong value"),
            _chat(model, _SHORT, temperature="hot", **bound),
        ),
        Question("empty body", judging.judge_error("empty body"), b""),
        Question("garbled body", judging.judge_error("garbled body"), b'{"model": '),
    )
    if context_tokens is None:
        return asked
    # A word and its space are a token at least.
    prompt = "a " * (context_tokens + 1)
    return (
        *asked,
        costs("too long a prompt", judging.judge_too_long, _chat(model, prompt, **bound)),
    )


def _chat(model: str, prompt: str, **more: Any) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], **more}
    return json.dumps(body).encode()

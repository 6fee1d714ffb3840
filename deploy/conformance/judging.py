"""What answers say of a backend: a finding for each. Pure, and total: no answer makes a judge fail.

A finding says one word of a closed list, so that programs can act on it; the detail is for people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from deploy.conformance.answers import Answer
from deploy.conformance.names import is_id

__all__ = ["Finding", "Judge", "Word"]

Word: TypeAlias = Literal["yes", "no", "refused", "ignored", "answered", "unknown"]
"""``refused`` and ``ignored`` are of fields; ``answered`` says that what should have failed did not; ``unknown`` that
the answer tells nothing, for the detail's reason."""


@dataclass(frozen=True)
class Finding:
    """What is known of one property of a backend."""

    about: str
    says: Word
    detail: str = ""


Judge: TypeAlias = Callable[[Answer], tuple[Finding, ...]]

_REASONING: Final = ("reasoning_content", "reasoning", "thinking")
"""Where servers put what a model thinks: DeepSeek and vLLM, OpenRouter, Ollama."""
_TOO_LONG: Final = (
    "context_length_exceeded",
    "context length",
    "context size",
    "maximum context",
    "too long",
    "exceed",
)
"""Words that OpenAI, vLLM, llama.cpp, Ollama and TGI use for it."""
_NAMES_SHOWN: Final = 8


def judge_models(answer: Answer) -> tuple[Finding, ...]:
    """Whether the backend lists its models as OpenAI does, and which of them cannot be named here."""
    names = model_names(answer)
    if not names:
        return (Finding("lists models", "no", told(answer)),)
    odd = [name for name in names if not is_id(name)]
    listed = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    detail = f"{len(names)}: {listed}"
    if odd:
        detail += f"; needs a name of its own here: {', '.join(odd[:_NAMES_SHOWN])}"
    return (Finding("lists models", "yes", detail),)


def model_names(answer: Answer) -> tuple[str, ...]:
    """The models that a list names."""
    listed = answer.document.get("data")
    if not answer.is_ok or not isinstance(listed, list):
        return ()
    names = [each.get("id") for each in listed if isinstance(each, dict)]
    return tuple(name for name in names if isinstance(name, str) and name)


def judge_limit(name: str, limit_tokens: int) -> Judge:
    """Whether a field bounds the answer of a prompt that asks for more."""

    def judge(answer: Answer) -> tuple[Finding, ...]:
        return (_limit(name, limit_tokens, answer), *_chat(answer))

    return judge


def _limit(name: str, limit_tokens: int, answer: Answer) -> Finding:
    if answer.is_refusal:
        return Finding(name, "refused", told(answer))
    if not answer.is_ok or not answer.message:
        return Finding(name, "unknown", told(answer))
    used = answer.usage
    if used and used.output_tokens > limit_tokens:
        return Finding(
            name, "ignored", f"{used.output_tokens} tokens where {limit_tokens} were allowed"
        )
    if used or "length" in answer.finish_reasons:
        return Finding(name, "yes", "the answer kept to it")
    return Finding(name, "unknown", "taken; without usage nobody can tell whether it is kept")


def judge_chat(answer: Answer) -> tuple[Finding, ...]:
    """Whether there is a JSON completion, and what it shows."""
    return _chat(answer) or (Finding("chat", "no", told(answer)),)


def _chat(answer: Answer) -> tuple[Finding, ...]:
    """What a JSON completion shows besides; nothing where there is none."""
    if not answer.is_ok or not answer.message:
        return ()
    used = answer.usage
    content = answer.message.get("content")
    kind = "text" if isinstance(content, str | None) else "a list of parts"
    return (
        Finding("chat", "yes", kind),
        Finding("usage", "yes", str(used))
        if used
        else Finding("usage", "no", "it will be estimated"),
        _reasoning((answer.message,)),
    )


def _reasoning(parts: tuple[dict[str, Any], ...]) -> Finding:
    found = sorted({name for part in parts for name in _REASONING if part.get(name)})
    return Finding("reasoning fields", "yes" if found else "no", ", ".join(found))


def judge_stream(*, asked_for_usage: bool) -> Judge:
    """Whether the answer comes as a stream, how it ends, and whether usage is part of it."""

    def judge(answer: Answer) -> tuple[Finding, ...]:
        about = (
            "usage in streams, asked for" if asked_for_usage else "usage in streams, not asked for"
        )
        if asked_for_usage and answer.is_refusal:
            return (Finding("stream_options", "refused", told(answer)),)
        deltas = tuple(answer.deltas())
        if not answer.is_ok or not deltas:
            return (Finding("stream", "no", told(answer)),)
        used = answer.usage
        found = (
            Finding("stream", "yes", _end(answer)),
            Finding(about, "yes", str(used)) if used else Finding(about, "no"),
            _reasoning(deltas),
        )
        return (*found, Finding("stream_options", "yes")) if asked_for_usage else found

    return judge


def _end(answer: Answer) -> str:
    form = "" if answer.is_stream else f", as {answer.headers.get('content-type') or 'no type'}"
    if answer.ended != "whole":
        return f"did not end by itself ({answer.why or answer.ended}){form}"
    return f"{'ends with [DONE]' if answer.says_done else 'ends without [DONE]'}{form}"


def judge_tools(answer: Answer) -> tuple[Finding, ...]:
    """Whether tools are taken, and whether one is called that the prompt asks for."""
    about = "tools"
    if answer.is_refusal:
        return (Finding(about, "refused", told(answer)),)
    if not answer.is_ok or not answer.message:
        return (Finding(about, "unknown", told(answer)),)
    if answer.message.get("tool_calls"):
        return (Finding(about, "yes", "a tool was called"),)
    return (Finding(about, "ignored", "taken, and none was called though the request required it"),)


def judge_error(about: str) -> Judge:
    """How a backend refuses what must not succeed."""

    def judge(answer: Answer) -> tuple[Finding, ...]:
        if answer.is_ok:
            return (Finding(about, "answered", "200, as if nothing were wrong"),)
        if not answer.status:
            return (Finding(about, "unknown", told(answer)),)
        return (Finding(about, "refused", f"{told(answer)} ({answer.error_shape})"),)

    return judge


def judge_field(about: str) -> Judge:
    """Whether a field that nobody knows passes."""

    def judge(answer: Answer) -> tuple[Finding, ...]:
        if answer.is_refusal:
            return (Finding(about, "refused", told(answer)),)
        return (
            Finding(
                about,
                "ignored" if answer.is_ok else "unknown",
                "" if answer.is_ok else told(answer),
            ),
        )

    return judge


def judge_too_long(answer: Answer) -> tuple[Finding, ...]:
    """Whether programs can tell that a prompt was too long."""
    about = "too long a prompt"
    if answer.is_ok:
        return (Finding(about, "answered", "200: it was cut, or fits"),)
    if not answer.status:
        return (Finding(about, "unknown", told(answer)),)
    is_told = any(word in answer.text.lower() for word in _TOO_LONG)
    return (
        Finding(
            about, "refused" if is_told else "unknown", f"{told(answer)} ({answer.error_shape})"
        ),
    )


def told(answer: Answer) -> str:
    """What a person is told of an answer that is not what was asked for."""
    if not answer.status:
        return answer.why or answer.ended
    said = answer.complaint
    return f"{answer.status} {said}".strip()

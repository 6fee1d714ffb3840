"""Finds what a model was told and what it said: the texts that make tokens, whatever field they stand in. Pure.

Only for estimates, where a backend counts nothing. An answer's JSON may have any shape. Sources:
OpenAI's chat object (``content``, ``refusal``, ``tool_calls``, ``function_call``, ``audio.transcript``);
``reasoning_content`` of DeepSeek, SGLang and llama.cpp, ``reasoning`` of vLLM and Groq, ``thinking`` of Ollama,
``reasoning_details`` of OpenRouter, parts of type ``thinking`` of Mistral and Anthropic. What such a field costs
when it is left out: mikeyobrien/pi-provider-kiro#52, ai-dynamo/dynamo#4440, cline/cline#11300.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

__all__ = ["spoken", "told"]

_THOUGHTS: Final = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""One thought under several names, as proxies of proxies send it; the first that says something counts."""
_WORDS: Final = ("text", "thinking", "refusal", "summary")
"""Where a part, of an answer or of a thought, has its text."""
_DEFINITIONS: Final = ("tools", "functions", "response_format")


def spoken(said: Any) -> Iterator[str]:
    """Texts of a message or of a stream's delta: content, refusal, thoughts, names and arguments of tool calls."""
    if isinstance(said, str):
        yield said
    if not isinstance(said, dict):
        return
    yield from _words(said.get("content"))
    yield from _words(said.get("refusal"))
    for name in _THOUGHTS:
        if thoughts := [*_words(said.get(name))]:
            yield from thoughts
            break
    yield from _call(said.get("function_call"))
    calls = said.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            yield from _call(call.get("function"))
            yield from _call(call.get("custom"))
    audio = said.get("audio")
    if isinstance(audio, dict):
        yield from _words(audio.get("transcript"))


def told(body: Any) -> Iterator[str]:
    """Texts of a request's body: its messages, those of tools too, the tools themselves, the form of the answer.

    Raises ``TypeError`` for what is no such body.
    """
    if not isinstance(body, dict) or not isinstance(messages := body.get("messages", []), list):
        raise TypeError("no list of messages")
    for message in messages:
        yield from spoken(message)
    for name in _DEFINITIONS:
        if given := body.get(name):
            yield msgspec.json.encode(given).decode()


def _words(said: Any, depth: int = 2) -> Iterator[str]:
    """A text, or the texts of its parts; Mistral's thoughts are parts in a part."""
    if isinstance(said, str):
        if said:
            yield said
        return
    if isinstance(said, list) and depth:
        for part in said:
            if isinstance(part, dict):
                for name in _WORDS:
                    yield from _words(part.get(name), depth - 1)
            else:
                yield from _words(part, 0)


def _call(called: Any) -> Iterator[str]:
    """Name and arguments of a call; Ollama sends the arguments as an object."""
    if not isinstance(called, dict):
        return
    for name in ("name", "arguments", "input"):
        if isinstance(given := called.get(name), str):
            yield given
        elif given:
            yield msgspec.json.encode(given).decode()

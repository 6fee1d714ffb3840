"""Turns the messages of a chat completion into those of a message request. Pure.

Instructions, wherever they stand, become the system prompt, as Anthropic's own endpoint for OpenAI's SDK does it. Neighbours of
one role become one message: all results of one message's calls have to stand in the message behind it
(agentjido/req_llm#250, bestruirui/octopus#219). Thoughts come back as the answer told them, with their signatures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from dispatcher.operations.anthropic.inputs import input_of
from dispatcher.operations.binding import Unaskable

__all__ = ["system_of", "turns_of"]

_INSTRUCTIONS: Final = frozenset({"system", "developer"})
_DATA_URL: Final = re.compile(r"data:([a-z]+/[a-z0-9.+-]{1,100})[^,]{0,100};base64,", re.IGNORECASE)
_ODD_IN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")
"""Anthropic takes no other characters in the id of a call."""
_TEXT: Final = frozenset({"text", "input_text", "output_text"})
_UNASKABLE: Final = frozenset({"input_audio"})

_Block = dict[str, Any]


def system_of(messages: list[Any]) -> str | list[_Block]:
    """All instructions: one text, or blocks where one of them is marked for a cache."""
    blocks = [
        block
        for index, message in enumerate(messages)
        if message.get("role") in _INSTRUCTIONS
        for block in _blocks(f"messages[{index}]", message.get("content"))
    ]
    if all(block.keys() == {"type", "text"} for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return blocks


def turns_of(messages: list[Any]) -> list[dict[str, Any]]:
    """All other messages, neighbours of one role as one. Raises ``Unaskable`` for a part that has no such block."""
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        if message.get("role") in _INSTRUCTIONS:
            continue
        role, content = _turn(f"messages[{index}]", message)
        if role == "assistant" and not content:
            continue  # Nothing was said, which Anthropic does not take.
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] = [*_listed(turns[-1]["content"]), *_listed(content)]
        else:
            turns.append({"role": role, "content": content})
    return turns


def _turn(where: str, message: dict[str, Any]) -> tuple[str, str | list[_Block]]:
    content = message.get("content")
    match message.get("role"):
        case "tool" | "function":
            return "user", [_result(where, message)]
        case "assistant":
            if isinstance(content, str) and not (message.keys() - {"role", "content"}):
                return "assistant", content
            return "assistant", list(_said(where, message))
        case "user":
            return "user", content if isinstance(content, str) else list(_blocks(where, content))
        case _:
            raise Unaskable(f"{where}.role", "is none that Anthropic's protocol has")


def _listed(content: str | list[_Block]) -> list[_Block]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content


def _said(where: str, message: dict[str, Any]) -> Iterator[_Block]:
    """What the model thought, said and called; thoughts first, as it told them."""
    thoughts = message.get("thinking_blocks")
    if isinstance(thoughts, list):
        yield from (each for each in thoughts if isinstance(each, dict))
    yield from _blocks(where, message.get("content"))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise Unaskable(f"{where}.tool_calls", "are no calls of functions")
        yield {
            "type": "tool_use",
            "id": _id(call.get("id")),
            "name": function.get("name"),
            "input": input_of(function.get("arguments")),
        }


def _result(where: str, message: dict[str, Any]) -> _Block:
    content = message.get("content")
    told = content if isinstance(content, str) else list(_blocks(where, content))
    result = {
        "type": "tool_result",
        "tool_use_id": _id(message.get("tool_call_id")),
        "content": told,
    }
    if message.get("cache_control") is not None:
        result["cache_control"] = message["cache_control"]
    return result


def _id(given: Any) -> str:
    return _ODD_IN_ID.sub("_", given) if isinstance(given, str) else ""


def _blocks(where: str, content: Any) -> Iterator[_Block]:
    """Parts as blocks, without texts that say nothing, which Anthropic refuses."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for at, part in enumerate(content or ()):
        if (block := _block(f"{where}.content[{at}]", part)) is not None:
            if part.get("cache_control") is not None:
                block["cache_control"] = part["cache_control"]
            yield block


def _block(where: str, part: dict[str, Any]) -> _Block | None:
    kind = part.get("type")
    if kind in _TEXT or kind == "refusal":
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise Unaskable(where, "has no text")
        return {"type": "text", "text": text} if text else None
    if kind in _UNASKABLE:
        raise Unaskable(where, "is of a kind that Anthropic's protocol has not")
    if kind in ("image_url", "input_image"):
        image = part.get("image_url")
        return {
            "type": "image",
            "source": _source(image.get("url") if isinstance(image, dict) else image),
        }
    if kind in ("file", "input_file"):
        return _document(where, part.get("file", part))
    return dict(part)  # A block of Anthropic's own.


def _source(url: Any) -> dict[str, Any]:
    found = _DATA_URL.match(url) if isinstance(url, str) else None
    if found is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": found[1].lower(), "data": url[found.end() :]}


def _document(where: str, file: Any) -> _Block:
    data = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(data, str):
        raise Unaskable(where, "names a file that is kept elsewhere: send its data")
    block: _Block = {"type": "document", "source": _source(data)}
    if isinstance(name := file.get("filename"), str) and name:
        block["title"] = name
    return block

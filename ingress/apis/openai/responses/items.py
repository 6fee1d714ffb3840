"""Turns the input of a response request, which was checked, into the messages of a chat completion. Pure.

Calls of functions are items of their own there; here they stand in the assistant's message, whose outputs follow it as
messages of tools. Pictures in an output stand in the user's message behind it, because such messages hold text alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ingress.apis.openai.responses.checks import kind_of
from ingress.apis.parsed_request import Fields

__all__ = ["PREVIOUS", "Earlier", "Turn", "turns_of"]

PREVIOUS: Final = "previous_response_id"
"""The field that names the response from which a conversation goes on."""

_BETWEEN_TEXTS: Final = "\n\n"


class Earlier(NamedTuple):
    """A conversation that goes on."""

    messages: list[Fields]
    """All that its last response was asked, without instructions; they are the reader's to change."""
    output: list[Fields]
    """The items of that response."""


class Turn(NamedTuple):
    """One message of a chat completion."""

    origin: str
    """The field that it was made of, the first of several."""
    message: Fields


def turns_of(fields: Fields, earlier: Earlier | None = None) -> list[Turn]:
    """All messages: the instructions, what was said before, the input."""
    turns: list[Turn] = []
    if instructions := fields.get("instructions"):
        turns.append(Turn("instructions", {"role": "system", "content": instructions}))
    if earlier is not None:
        turns += [Turn(PREVIOUS, message) for message in earlier.messages]
        for item in earlier.output:
            _add(turns, item["type"], PREVIOUS, item)
    given = fields["input"]
    if isinstance(given, str):
        return [*turns, Turn("input", {"role": "user", "content": given})]
    shown: list[Turn] = []
    """Pictures in outputs, which follow the last of these: nothing may stand between a call and its output."""
    for index, item in enumerate(given):
        kind, origin = kind_of(item), f"input[{index}]"
        if kind == "function_call_output":
            turns.append(Turn(origin, _output(item)))
            shown += [Turn(origin, {"role": "user", "content": p}) for p in _pictures(item)]
        elif kind != "reasoning":
            turns += shown
            shown = []
            _add(turns, kind, origin, item)
    return turns + shown


def _add(turns: list[Turn], kind: str, origin: str, item: Fields) -> None:
    if kind == "function_call":
        _add_call(turns, origin, item)
    elif item["role"] == "assistant":
        _add_said(turns, origin, _said(item["content"]))
    else:
        role = "user" if item["role"] == "user" else "system"
        turns.append(Turn(origin, {"role": role, "content": _content(item["content"])}))


def _add_said(turns: list[Turn], origin: str, text: str) -> None:
    """What an assistant said; beside calls that were just made it stands in their message."""
    last = turns[-1].message if turns else {}
    if last.get("tool_calls"):
        told = (last["content"], text)
        last["content"] = _BETWEEN_TEXTS.join(each for each in told if each)
    else:
        turns.append(Turn(origin, {"role": "assistant", "content": text}))


def _add_call(turns: list[Turn], origin: str, item: Fields) -> None:
    function = {"name": item["name"], "arguments": item["arguments"]}
    call = {"id": item["call_id"], "type": "function", "function": function}
    last = turns[-1].message if turns else {}
    if last.get("role") != "assistant":
        last = {"role": "assistant", "content": None, "tool_calls": []}
        turns.append(Turn(origin, last))
    last.setdefault("tool_calls", []).append(call)


def _said(content: str | list[Fields]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or part.get("refusal") or "" for part in content)


def _output(item: Fields) -> Fields:
    """Its texts as a message of a tool."""
    texts = [part["text"] for part in _parts(item["output"]) if part["type"] == "text"]
    told = _BETWEEN_TEXTS.join(texts)
    return {"role": "tool", "tool_call_id": item["call_id"], "content": told}


def _pictures(item: Fields) -> Iterator[list[Fields]]:
    """What else it brings, where it brings something."""
    others = [part for part in _parts(item["output"]) if part["type"] != "text"]
    if others:
        yield others


def _parts(content: str | list[Fields]) -> list[Fields]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return list(map(_part, content))


def _content(content: str | list[Fields]) -> str | list[Fields]:
    """A text where there is nothing else: every server takes that."""
    if isinstance(content, str):
        return content
    parts = _parts(content)
    if all(part.keys() == {"type", "text"} for part in parts):
        return _BETWEEN_TEXTS.join(part["text"] for part in parts)
    return parts


def _part(part: Fields) -> Fields:
    match part["type"]:
        case "input_text":
            made: Fields = {"type": "text", "text": part["text"]}
        case "input_image":
            image: dict[str, Any] = {"url": part["image_url"]}
            if part.get("detail") is not None:
                image["detail"] = part["detail"]
            made = {"type": "image_url", "image_url": image}
        case "input_file":
            file = {"filename": part.get("filename") or "file", "file_data": part["file_data"]}
            made = {"type": "file", "file": file}
        case _:
            made = {"type": "input_audio", "input_audio": part["input_audio"]}
    # A mark that asks for a write to a cache is read, and priced, where it stands.
    if (mark := part.get("prompt_cache_breakpoint")) is not None:
        made["prompt_cache_breakpoint"] = mark
    return made

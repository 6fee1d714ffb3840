"""Turns the messages of a message request, which was checked, into those of a chat completion. Pure.

Results of tools are messages of their own there, right behind the calls that they answer; pictures in them stand in
the user's message behind them, because such messages hold text alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from ingress.apis.anthropic.checks import TEXT_PDF
from ingress.apis.parsed_request import Fields

__all__ = ["Turn", "turns_of"]

_BETWEEN_TEXTS: Final = "\n\n"


class Turn(NamedTuple):
    """One message of a chat completion."""

    origin: str
    """The field that it was made of."""
    message: Fields


def turns_of(fields: Fields) -> Iterator[Turn]:
    """All messages, the system prompt first."""
    if system := _joined(fields.get("system") or ""):
        yield Turn("system", {"role": "system", "content": system})
    for index, message in enumerate(fields["messages"]):
        for made in _MAKERS[message["role"]](message["content"]):
            yield Turn(f"messages[{index}]", made)


def _system(content: str | list[Fields]) -> Iterator[Fields]:
    yield {"role": "system", "content": _joined(content)}


def _assistant(content: str | list[Fields]) -> Iterator[Fields]:
    """Texts and calls; thoughts are left out, as Anthropic leaves those of earlier turns out."""
    if isinstance(content, str):
        yield {"role": "assistant", "content": content}
        return
    text = "".join(block["text"] for block in content if block["type"] == "text")
    calls = [_call(block) for block in content if block["type"] == "tool_use"]
    if calls:
        yield {"role": "assistant", "content": text or None, "tool_calls": calls}
    else:
        yield {"role": "assistant", "content": text}


def _call(block: Fields) -> Fields:
    arguments = msgspec.json.encode(block["input"]).decode()
    function = {"name": block["name"], "arguments": arguments}
    return {"id": block["id"], "type": "function", "function": function}


def _user(content: str | list[Fields]) -> Iterator[Fields]:
    if isinstance(content, str):
        yield {"role": "user", "content": content}
        return
    said: list[Fields] = []
    for block in content:
        if block["type"] != "tool_result":
            said += _parts(block)
            continue
        parts = _parts_of(block.get("content") or "")
        texts = [part["text"] for part in parts if part["type"] == "text"]
        told = _BETWEEN_TEXTS.join(texts)
        yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": told}
        said += [part for part in parts if part["type"] != "text"]
    if said or not any(block["type"] == "tool_result" for block in content):
        yield {"role": "user", "content": _content(said)}


def _content(parts: list[Fields]) -> str | list[Fields]:
    """A text where there is nothing else: every server takes that."""
    if all(part["type"] == "text" for part in parts):
        return _BETWEEN_TEXTS.join(part["text"] for part in parts)
    return parts


def _joined(content: str | list[Fields]) -> str:
    """The text of blocks that are text alone."""
    if isinstance(content, str):
        return content
    return _BETWEEN_TEXTS.join(block["text"] for block in content)


def _parts_of(content: str | list[Fields]) -> list[Fields]:
    if isinstance(content, str):
        return [_text(content)]
    return [part for block in content for part in _parts(block)]


def _parts(block: Fields) -> list[Fields]:
    """A block as the parts of a message."""
    match block["type"]:
        case "text":
            return [_text(block["text"])]
        case "image":
            return [{"type": "image_url", "image_url": {"url": _url(block["source"])}}]
        case "document":
            return _document(block)
        case _:
            lines = (block["title"], block["source"], _joined(block["content"]))
            return [_text("\n".join(lines))]


def _text(text: str) -> Fields:
    return {"type": "text", "text": text}


def _url(source: Fields) -> Any:
    if source["type"] == "url":
        return source["url"]
    return f"data:{source['media_type']};base64,{source['data']}"


def _document(block: Fields) -> list[Fields]:
    """What says what it is, and the document: its text, or the file."""
    about = [_text(block[name]) for name in ("title", "context") if block.get(name)]
    source = block["source"]
    if source["type"] == "text":
        return [*about, _text(source["data"])]
    data = f"data:{TEXT_PDF};base64,{source['data']}"
    return [*about, {"type": "file", "file": {"filename": "document.pdf", "file_data": data}}]


_MAKERS: Final = {"system": _system, "assistant": _assistant, "user": _user}

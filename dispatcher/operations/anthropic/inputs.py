"""Arguments of a call of a tool: a text of JSON in OpenAI's form, an object in Anthropic's. Pure."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from dispatcher.upstream.event_splitter import UpstreamGarbage

__all__ = ["arguments_of", "input_of", "written"]


def input_of(arguments: Any) -> dict[str, Any]:
    """The object that they are; what is none, as where an output met its limit, stands in it as it came."""
    if isinstance(arguments, dict):
        return arguments
    if not isinstance(arguments, str) or not arguments.strip():
        return {}
    try:
        given = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        given = None
    return given if isinstance(given, dict) else {"arguments": arguments}


def arguments_of(given: Any) -> str:
    """The text of an object; what came as a text stays one."""
    if isinstance(given, str):
        return given
    return written({} if given is None else given).decode()


def written(value: Any) -> bytes:
    """What a backend sent, as JSON again; half surrogate pairs as they came. Raises ``UpstreamGarbage`` for what is too deep."""
    try:
        try:
            return msgspec.json.encode(value)
        except UnicodeEncodeError:
            return json.dumps(value).encode()
    except (ValueError, RecursionError) as error:
        raise UpstreamGarbage("no JSON of this shape") from error

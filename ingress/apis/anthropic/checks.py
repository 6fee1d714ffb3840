"""Checks a message request: names the first field that is wrong, at whatever depth. Pure.

What passes can be translated without a second look. Unknown blocks are refused, because whoever cannot translate a
part of a prompt would ask a model something else. Source: Anthropic's Messages API, 2023-06-01.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ingress.apis.anthropic.message_fields import FIELDS
from ingress.apis.openai.chat import MESSAGES_MAX, OUTPUT_TOKENS_MAX
from ingress.apis.parsed_request import Fields, invalid
from ingress.apis.translated_fields import Check, Wrong, wrong_content, wrong_name, wrong_names
from ingress.http.refusals import Refusal

__all__ = ["OUTPUT_TOKENS_MAX", "TEXT_PDF", "first_wrong", "wrong_limit"]

TEXT_PDF: Final = "application/pdf"
_PICTURE: Final = re.compile(r"image/[a-z0-9.+-]{1,64}")
_STOPS_MAX: Final = 1_024
_ROLES: Final = ("user", "assistant", "system")
_CHOICES: Final = ("auto", "any", "tool", "none")


def first_wrong(fields: Fields, *, counts_only: bool = False) -> Refusal | None:
    """The first field that is wrong; null counts as absent. A request that only counts has no limit of an output."""
    return next(_wrong(fields, counts_only=counts_only), None)


def wrong_limit(limit: Any) -> Refusal | None:
    """What is wrong with the limit of the output, which every request states."""
    return next(_wrong_limit(limit), None)


def _wrong(fields: Fields, *, counts_only: bool) -> Wrong:
    yield from wrong_names(fields, FIELDS)
    if not counts_only:
        yield from _wrong_limit(fields.get("max_tokens"))
    yield from _wrong_options(fields)
    yield from _wrong_content("system", fields.get("system"), _SYSTEM, may_be_absent=True)
    yield from _wrong_messages(fields.get("messages"))
    yield from _wrong_tools(fields.get("tools"))
    yield from _wrong_choice(fields.get("tool_choice"))
    yield from _wrong_output(fields)


def _wrong_limit(limit: Any) -> Wrong:
    if type(limit) is not int or not 1 <= limit <= OUTPUT_TOKENS_MAX:
        yield invalid("max_tokens", f"must be an integer from 1 to {OUTPUT_TOKENS_MAX}")


def _wrong_options(fields: Fields) -> Wrong:
    for name in ("temperature", "top_p"):
        if isinstance(fields.get(name), bool) or not isinstance(
            fields.get(name), int | float | None
        ):
            yield invalid(name, "must be a number")
    if type(fields.get("top_k")) not in (int, type(None)):
        yield invalid("top_k", "must be an integer")
    if not isinstance(fields.get("stream"), bool | None):
        yield invalid("stream", "must be true or false")
    stops = fields.get("stop_sequences")
    if not isinstance(stops, list | None) or len(stops or ()) > _STOPS_MAX:
        yield invalid("stop_sequences", f"must be a list of at most {_STOPS_MAX} texts")
    for index, stop in enumerate(stops or ()):
        yield from wrong_name(f"stop_sequences[{index}]", stop)


def _wrong_messages(messages: Any) -> Wrong:
    if not isinstance(messages, list) or not 1 <= len(messages) <= MESSAGES_MAX:
        yield invalid("messages", f"must be a list of 1 to {MESSAGES_MAX} messages")
        return
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            yield invalid(where, "must be an object")
            return
        role = message.get("role")
        if role not in _ROLES:
            yield invalid(f"{where}.role", "must be user, assistant or system")
            return
        yield from _wrong_content(f"{where}.content", message.get("content"), _OF_ROLE[role])


def _wrong_content(
    where: str, content: Any, known: Mapping[str, Check], *, may_be_absent: bool = False
) -> Wrong:
    if content is not None or not may_be_absent:
        yield from wrong_content(where, content, known, "content blocks")


def _wrong_text(where: str, block: Fields) -> Wrong:
    if not isinstance(block.get("text"), str):
        yield invalid(f"{where}.text", "must be a string")


def _wrong_picture(where: str, block: Fields) -> Wrong:
    source = block.get("source")
    if not isinstance(source, dict):
        yield invalid(f"{where}.source", "must be an object")
        return
    match source.get("type"):
        case "base64":
            media = source.get("media_type")
            if not isinstance(media, str) or not _PICTURE.fullmatch(media):
                yield invalid(
                    f"{where}.source.media_type", "must be image/jpeg or another kind of picture"
                )
            if not isinstance(source.get("data"), str):
                yield invalid(f"{where}.source.data", "must be a string")
        case "url":
            if not isinstance(source.get("url"), str):
                yield invalid(f"{where}.source.url", "must be a string")
        case _:
            yield invalid(f"{where}.source.type", "must be base64 or url here")


def _wrong_document(where: str, block: Fields) -> Wrong:
    source = block.get("source")
    if not isinstance(source, dict):
        yield invalid(f"{where}.source", "must be an object")
        return
    if source.get("type") not in ("base64", "text"):
        yield invalid(f"{where}.source.type", "must be base64 or text here")
    if source["type"] == "base64" and source.get("media_type") != TEXT_PDF:
        yield invalid(f"{where}.source.media_type", f"must be {TEXT_PDF}")
    if not isinstance(source.get("data"), str):
        yield invalid(f"{where}.source.data", "must be a string")
    for name in ("title", "context"):
        if not isinstance(block.get(name), str | None):
            yield invalid(f"{where}.{name}", "must be a string")


def _wrong_search_result(where: str, block: Fields) -> Wrong:
    for name in ("title", "source"):
        if not isinstance(block.get(name), str):
            yield invalid(f"{where}.{name}", "must be a string")
    if not isinstance(block.get("content"), list):
        yield invalid(f"{where}.content", "must be a list of content blocks")
    yield from _wrong_content(f"{where}.content", block["content"], _SYSTEM)


def _wrong_use(where: str, block: Fields) -> Wrong:
    for name in ("id", "name"):
        yield from wrong_name(f"{where}.{name}", block.get(name))
    if not isinstance(block.get("input"), dict):
        yield invalid(f"{where}.input", "must be an object")


def _wrong_result(where: str, block: Fields) -> Wrong:
    yield from wrong_name(f"{where}.tool_use_id", block.get("tool_use_id"))
    if not isinstance(block.get("is_error"), bool | None):
        yield invalid(f"{where}.is_error", "must be true or false")
    yield from _wrong_content(
        f"{where}.content", block.get("content"), _OF_RESULT, may_be_absent=True
    )


def _passed(_: str, __: Fields) -> Wrong:
    """Thoughts come back as they were sent, and are left out: whatever they are."""
    yield from ()


def _wrong_tools(tools: Any) -> Wrong:
    if not isinstance(tools, list | None):
        yield invalid("tools", "must be a list")
        return
    for index, tool in enumerate(tools or ()):
        where = f"tools[{index}]"
        if not isinstance(tool, dict):
            yield invalid(where, "must be an object")
            return
        if tool.get("type") not in (None, "custom"):
            yield invalid(
                f"{where}.type",
                "is no tool of the client's own: only those (custom) are possible here",
            )
        yield from wrong_name(f"{where}.name", tool.get("name"))
        if not isinstance(tool.get("description"), str | None):
            yield invalid(f"{where}.description", "must be a string")
        if not isinstance(tool.get("input_schema"), dict):
            yield invalid(f"{where}.input_schema", "must be an object")
        if not isinstance(tool.get("strict"), bool | None):
            yield invalid(f"{where}.strict", "must be true or false")


def _wrong_choice(choice: Any) -> Wrong:
    if choice is None:
        return
    if not isinstance(choice, dict):
        yield invalid("tool_choice", "must be an object")
        return
    if choice.get("type") not in _CHOICES:
        yield invalid("tool_choice.type", f"must be one of {', '.join(_CHOICES)}")
    if choice["type"] == "tool":
        yield from wrong_name("tool_choice.name", choice.get("name"))
    if not isinstance(choice.get("disable_parallel_tool_use"), bool | None):
        yield invalid("tool_choice.disable_parallel_tool_use", "must be true or false")


def _wrong_output(fields: Fields) -> Wrong:
    config = fields.get("output_config")
    if not isinstance(config, dict | None):
        yield invalid("output_config", "must be an object")
        return
    for where, form in (
        ("output_config.format", (config or {}).get("format")),
        ("output_format", fields.get("output_format")),
    ):
        if form is None:
            continue
        if not isinstance(form, dict):
            yield invalid(where, "must be an object")
            return
        if form.get("type") != "json_schema":
            yield invalid(f"{where}.type", "must be json_schema")
        if not isinstance(form.get("schema"), dict):
            yield invalid(f"{where}.schema", "must be an object")


_SYSTEM: Final[Mapping[str, Check]] = {"text": _wrong_text}
_OF_RESULT: Final[Mapping[str, Check]] = {
    "text": _wrong_text,
    "image": _wrong_picture,
    "document": _wrong_document,
    "search_result": _wrong_search_result,
}
_OF_ROLE: Final[Mapping[str, Mapping[str, Check]]] = {
    "system": _SYSTEM,
    "user": {**_OF_RESULT, "tool_result": _wrong_result},
    "assistant": {
        "text": _wrong_text,
        "tool_use": _wrong_use,
        "thinking": _passed,
        "redacted_thinking": _passed,
    },
}

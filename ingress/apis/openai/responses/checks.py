"""Checks a response request: names the first field that is wrong, at whatever depth. Pure.

What passes can be translated without a second look. Items and tools of other kinds are refused by their name.
Source: OpenAI's Responses API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ingress.apis.openai.chat import MESSAGES_MAX, OUTPUT_TOKENS_MAX
from ingress.apis.openai.responses.response_fields import FIELDS
from ingress.apis.parsed_request import Fields, invalid
from ingress.apis.translated_fields import Check, Wrong, wrong_content, wrong_name, wrong_names
from ingress.http.refusals import Refusal

__all__ = ["LOGPROBS", "first_wrong", "kind_of"]

LOGPROBS: Final = "message.output_text.logprobs"
_TOP_LOGPROBS_MAX: Final = 20
_INCLUDED: Final = frozenset(
    {
        LOGPROBS,
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
_PAIRS_MAX: Final = 16
_KEY_CHARS_MAX: Final = 64
_VALUE_CHARS_MAX: Final = 512
_ROLES: Final = ("user", "assistant", "system", "developer")
_CHOICES: Final = ("auto", "none", "required")
_FORMATS: Final = ("text", "json_object", "json_schema")
_KIND_CHARS_MAX: Final = 64
_BOOLEAN: Final = (bool, "true or false")
_STRING: Final = (str, "a string")
_KINDS: Final[Mapping[str, tuple[type, str]]] = {
    "stream": _BOOLEAN,
    "store": _BOOLEAN,
    "background": _BOOLEAN,
    "parallel_tool_calls": _BOOLEAN,
    "instructions": _STRING,
    "user": _STRING,
    "previous_response_id": _STRING,
    "safety_identifier": _STRING,
    "prompt_cache_key": _STRING,
    "stream_options": (dict, "an object"),
}


def first_wrong(fields: Fields) -> Refusal | None:
    """The first field that is wrong; null counts as absent."""
    return next(_wrong(fields), None)


def kind_of(item: Fields) -> Any:
    """The type of an item; a message need not say that it is one."""
    named = item.get("type")
    return "message" if named is None and "role" in item else named


def _wrong(fields: Fields) -> Wrong:
    yield from wrong_names(fields, FIELDS)
    yield from _wrong_options(fields)
    yield from _wrong_metadata(fields.get("metadata"))
    yield from _wrong_input(fields.get("input"))
    yield from _wrong_text_options(fields.get("text"))
    yield from _wrong_reasoning(fields.get("reasoning"))
    yield from _wrong_tools(fields.get("tools"))
    yield from _wrong_choice(fields.get("tool_choice"))


def _wrong_options(fields: Fields) -> Wrong:
    yield from _wrong_whole("max_output_tokens", fields, 1, OUTPUT_TOKENS_MAX)
    yield from _wrong_whole("top_logprobs", fields, 0, _TOP_LOGPROBS_MAX)
    for name in ("temperature", "top_p"):
        value = fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            yield invalid(name, "must be a number")
    for name, (kind, what) in _KINDS.items():
        if not isinstance(fields.get(name), kind | None):
            yield invalid(name, f"must be {what}")
    if fields.get("truncation") not in (None, "disabled"):
        yield invalid("truncation", "must be disabled: nothing is cut here")
    if fields.get("background") and fields.get("store") is False:
        yield invalid("store", "must not be false with background, whose answer is kept")
    yield from _wrong_included(fields.get("include"))


def _wrong_included(included: Any) -> Wrong:
    if not isinstance(included, list | None):
        yield invalid("include", "must be a list")
    for index, each in enumerate(included or ()):
        if not isinstance(each, str) or each not in _INCLUDED:
            yield invalid(f"include[{index}]", "is not known here")


def _wrong_whole(name: str, fields: Fields, least: int, greatest: int) -> Wrong:
    value = fields.get(name)
    if value is not None and not (type(value) is int and least <= value <= greatest):
        yield invalid(name, f"must be an integer from {least} to {greatest}")


def _wrong_metadata(metadata: Any) -> Wrong:
    if not isinstance(metadata, dict | None) or len(metadata or ()) > _PAIRS_MAX:
        yield invalid("metadata", f"must be an object of at most {_PAIRS_MAX} pairs")
    for key, value in (metadata or {}).items():
        is_text = isinstance(value, str) and len(value) <= _VALUE_CHARS_MAX
        if not is_text or len(key) > _KEY_CHARS_MAX:
            what = f"has keys of at most {_KEY_CHARS_MAX} characters and texts of at most {_VALUE_CHARS_MAX}"
            yield invalid("metadata", what)


def _wrong_input(given: Any) -> Wrong:
    if isinstance(given, str):
        return
    if not isinstance(given, list) or not 1 <= len(given) <= MESSAGES_MAX:
        yield invalid("input", f"must be a text or a list of 1 to {MESSAGES_MAX} items")
        return
    for index, item in enumerate(given):
        where = f"input[{index}]"
        if not isinstance(item, dict):
            yield invalid(where, "must be an object")
            return
        kind = kind_of(item)
        check = _ITEMS.get(kind) if isinstance(kind, str) else None
        if check is None:
            named = f" ({kind[:_KIND_CHARS_MAX]})" if isinstance(kind, str) else ""
            yield invalid(f"{where}.type", f"must be one of {', '.join(_ITEMS)} here{named}")
            return
        yield from check(where, item)


def _wrong_message(where: str, item: Fields) -> Wrong:
    role = item.get("role")
    if role not in _ROLES:
        yield invalid(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
        return
    known = _SAID if role == "assistant" else _TOLD
    yield from wrong_content(f"{where}.content", item.get("content"), known, "parts")


def _text_in(name: str) -> Check:
    def check(where: str, part: Fields) -> Wrong:
        if not isinstance(part.get(name), str):
            yield invalid(f"{where}.{name}", "must be a string")

    return check


def _wrong_image(where: str, part: Fields) -> Wrong:
    if part.get("file_id") is not None:
        yield invalid(f"{where}.file_id", "is not possible here: send the picture or its URL")
    if not isinstance(part.get("image_url"), str):
        yield invalid(f"{where}.image_url", "must be a string")
    if not isinstance(part.get("detail"), str | None):
        yield invalid(f"{where}.detail", "must be a string")


def _wrong_file(where: str, part: Fields) -> Wrong:
    for name in ("file_id", "file_url"):
        if part.get(name) is not None:
            yield invalid(f"{where}.{name}", "is not possible here: send the file as file_data")
    if not isinstance(part.get("file_data"), str):
        yield invalid(f"{where}.file_data", "must be a string")
    if not isinstance(part.get("filename"), str | None):
        yield invalid(f"{where}.filename", "must be a string")


def _wrong_recording(where: str, part: Fields) -> Wrong:
    audio = part.get("input_audio")
    if not isinstance(audio, dict):
        yield invalid(f"{where}.input_audio", "must be an object")
        return
    for name in ("data", "format"):
        if not isinstance(audio.get(name), str):
            yield invalid(f"{where}.input_audio.{name}", "must be a string")


def _wrong_call(where: str, item: Fields) -> Wrong:
    for name in ("call_id", "name"):
        yield from wrong_name(f"{where}.{name}", item.get(name))
    if not isinstance(item.get("arguments"), str):
        yield invalid(f"{where}.arguments", "must be a string")


def _wrong_output(where: str, item: Fields) -> Wrong:
    yield from wrong_name(f"{where}.call_id", item.get("call_id"))
    yield from wrong_content(f"{where}.output", item.get("output"), _TOLD, "parts")


def _passed(_: str, __: Fields) -> Wrong:
    """Thoughts come back as they were sent, and are left out: whatever they are."""
    yield from ()


def _wrong_text_options(text: Any) -> Wrong:
    if text is None:
        return
    if not isinstance(text, dict):
        yield invalid("text", "must be an object")
        return
    if not isinstance(text.get("verbosity"), str | None):
        yield invalid("text.verbosity", "must be a string")
    form = text.get("format")
    if form is None:
        return
    if not isinstance(form, dict):
        yield invalid("text.format", "must be an object")
        return
    if form.get("type") not in _FORMATS:
        yield invalid("text.format.type", f"must be one of {', '.join(_FORMATS)}")
    if form["type"] == "json_schema":
        yield from wrong_name("text.format.name", form.get("name"))
        if not isinstance(form.get("schema"), dict):
            yield invalid("text.format.schema", "must be an object")
        yield from _wrong_about("text.format", form)


def _wrong_about(where: str, about: Fields) -> Wrong:
    """What a schema and a function may say of themselves."""
    if not isinstance(about.get("description"), str | None):
        yield invalid(f"{where}.description", "must be a string")
    if not isinstance(about.get("strict"), bool | None):
        yield invalid(f"{where}.strict", "must be true or false")


def _wrong_reasoning(reasoning: Any) -> Wrong:
    if not isinstance(reasoning, dict | None):
        yield invalid("reasoning", "must be an object")
        return
    for name in ("effort", "summary", "generate_summary"):
        if not isinstance((reasoning or {}).get(name), str | None):
            yield invalid(f"reasoning.{name}", "must be a string")


def _wrong_tools(tools: Any) -> Wrong:
    if not isinstance(tools, list | None):
        yield invalid("tools", "must be a list")
        return
    for index, tool in enumerate(tools or ()):
        where = f"tools[{index}]"
        if not isinstance(tool, dict):
            yield invalid(where, "must be an object")
            return
        if (kind := tool.get("type")) != "function":
            named = f"{kind[:_KIND_CHARS_MAX]} " if isinstance(kind, str) else ""
            yield invalid(f"{where}.type", f"{named}is not possible here: only function is")
        yield from wrong_name(f"{where}.name", tool.get("name"))
        if not isinstance(tool.get("parameters"), dict | None):
            yield invalid(f"{where}.parameters", "must be an object")
        yield from _wrong_about(where, tool)


def _wrong_choice(choice: Any) -> Wrong:
    if choice is None or choice in _CHOICES:
        return
    if not isinstance(choice, dict) or choice.get("type") != "function":
        what = f"must be one of {', '.join(_CHOICES)}, or an object of type function"
        yield invalid("tool_choice", what)
        return
    yield from wrong_name("tool_choice.name", choice.get("name"))


_TOLD: Final[Mapping[str, Check]] = {
    "input_text": _text_in("text"),
    "input_image": _wrong_image,
    "input_file": _wrong_file,
    "input_audio": _wrong_recording,
}
_SAID: Final[Mapping[str, Check]] = {
    "output_text": _text_in("text"),
    "refusal": _text_in("refusal"),
    "input_text": _text_in("text"),
}
_ITEMS: Final[Mapping[str, Check]] = {
    "message": _wrong_message,
    "function_call": _wrong_call,
    "function_call_output": _wrong_output,
    "reasoning": _passed,
}

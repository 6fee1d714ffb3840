"""Asks a chat completion of a backend that speaks Anthropic's protocol: the message request that stands for it. Pure.

What its protocol calls differently is translated, what it has no name for and an answer does not miss is left out, what an
answer would miss is refused by its name. Everything else goes as it came: whoever knows Anthropic's own fields may use
them, and Anthropic refuses by its name what it does not know. Sources: Anthropic's Messages API, 2023-06-01, and what
its own endpoint for OpenAI's SDK does with each field (platform.claude.com, "OpenAI SDK compatibility").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dispatcher.operations.anthropic.turns import system_of, turns_of
from dispatcher.operations.binding import Unaskable
from dispatcher.operations.dialect import AS_IT_IS, Dialect
from dispatcher.work import Choice

__all__ = ["LEFT_OUT", "REFUSED", "encode", "message_request"]

_TRANSLATED: Final = frozenset(
    {
        "model", "messages", "max_tokens", "max_completion_tokens", "stop", "temperature", "tools", "tool_choice",
        "parallel_tool_calls", "response_format", "reasoning_effort", "user", "metadata", "service_tier",
    }
)  # fmt: skip
LEFT_OUT: Final = frozenset(
    {
        "n", "best_of", "stream_options", "frequency_penalty", "presence_penalty", "logit_bias", "seed", "store", "prediction",
        "verbosity", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "moderation",
        "logprobs", "top_logprobs", "modalities", "audio", "functions", "function_call", "web_search_options",
    }
)  # fmt: skip
"""What an answer does not miss; of ``REFUSED`` these are the values that ask for nothing."""
REFUSED: Final[Mapping[str, Any]] = {
    "n": 1,
    "best_of": 1,
    "logprobs": False,
    "modalities": ["text"],
    "audio": None,
    "functions": [],
    "web_search_options": None,
}
"""What a client would miss, and the value that asks for nothing."""
_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}
_EFFORTS: Final = {"minimal": "low"} | {
    each: each for each in ("low", "medium", "high", "xhigh", "max")
}
_TIERS: Final = {
    "auto": "auto",
    "priority": "auto",
    "fast": "auto",
    "default": "standard_only",
} | dict.fromkeys(("standard", "standard_only"), "standard_only")
_TEMPERATURE_MAX: Final = 1


def encode(payload: bytes, choice: Choice, _: Dialect = AS_IT_IS) -> bytes:
    """The body of a message request, of that of a chat completion. Raises ``Unaskable`` where there is none."""
    return msgspec.json.encode(message_request(msgspec.json.decode(payload), choice.upstream_model))


def message_request(chat: Mapping[str, Any], upstream_model: str | None = None) -> dict[str, Any]:
    """The same as fields. Raises ``Unaskable`` for what a message request cannot ask."""
    fields = {name: value for name, value in chat.items() if value is not None}
    for name, nothing in REFUSED.items():
        if fields.get(name, nothing) != nothing:
            raise Unaskable(name, "cannot be asked of a backend that speaks Anthropic's protocol")
    asked = {
        name: value
        for name, value in fields.items()
        if name not in _TRANSLATED and name not in LEFT_OUT
    }
    asked["model"] = upstream_model or fields["model"]
    asked["max_tokens"] = _limit(fields)
    asked["messages"] = turns_of(fields["messages"])
    if system := system_of(fields["messages"]):
        asked["system"] = system
    _translate_sampling(fields, asked)
    _translate_tools(fields, asked)
    _translate_output(fields, asked)
    _translate_caller(fields, asked)
    return asked


def _limit(fields: Mapping[str, Any]) -> int:
    limits = [fields[name] for name in ("max_tokens", "max_completion_tokens") if name in fields]
    if not limits:
        what = (
            "is required by Anthropic's protocol, and the model's output_limit_field leaves it out"
        )
        raise Unaskable("max_tokens", what)
    return int(min(limits))


def _translate_sampling(fields: Mapping[str, Any], asked: dict[str, Any]) -> None:
    temperature = fields.get("temperature")
    if temperature is not None:
        is_number = isinstance(temperature, int | float)
        asked["temperature"] = min(temperature, _TEMPERATURE_MAX) if is_number else temperature
    stops = fields.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    if isinstance(stops, list):
        # Anthropic refuses those of blanks alone.
        stops = [stop for stop in stops if not isinstance(stop, str) or stop.strip()]
    if stops:
        asked["stop_sequences"] = stops


def _translate_tools(fields: Mapping[str, Any], asked: dict[str, Any]) -> None:
    tools = fields.get("tools")
    if not tools:
        return
    asked["tools"] = [_tool(f"tools[{index}]", tool) for index, tool in enumerate(tools)]
    choice = _choice(fields.get("tool_choice"))
    if fields.get("parallel_tool_calls") is False:
        choice = choice or {"type": "auto"}
        if choice.get("type") != "none":
            choice["disable_parallel_tool_use"] = True
    if choice is not None:
        asked["tool_choice"] = choice


def _tool(where: str, tool: Any) -> Any:
    """A function; what is none is a tool of Anthropic's own and goes as it came."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        if isinstance(tool, dict) and "custom" in tool:
            raise Unaskable(where, "is a tool of free text, which Anthropic's protocol has not")
        return tool
    made: dict[str, Any] = {
        "name": function.get("name"),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    for name in ("description", "strict"):
        if function.get(name) is not None:
            made[name] = function[name]
    if tool.get("cache_control") is not None:
        made["cache_control"] = tool["cache_control"]
    return made


def _choice(choice: Any) -> dict[str, Any] | None:
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise Unaskable("tool_choice", f"must be one of {', '.join(_CHOICES)} or a function")
        return {"type": _CHOICES[choice]}
    if not isinstance(choice, dict):
        return None
    function = choice.get("function")
    if isinstance(function, dict):
        return {"type": "tool", "name": function.get("name")}
    return dict(choice)


def _translate_output(fields: Mapping[str, Any], asked: dict[str, Any]) -> None:
    """The form of the answer, and how hard to think about it."""
    given = asked.get("output_config")
    config: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    form = fields.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else form
    if kind == "json_schema":
        named = form.get("json_schema") if isinstance(form, dict) else None
        schema = named.get("schema") if isinstance(named, dict) else None
        config["format"] = {"type": "json_schema", "schema": schema}
    elif kind not in (None, "text"):
        what = "must be text or json_schema: Anthropic's protocol has no other form of an answer"
        raise Unaskable("response_format", what)
    effort = fields.get("reasoning_effort")
    if isinstance(effort, str) and effort in _EFFORTS:
        config.setdefault("effort", _EFFORTS[effort])
    if config:
        asked["output_config"] = config


def _translate_caller(fields: Mapping[str, Any], asked: dict[str, Any]) -> None:
    """Who asks, and at which service tier."""
    metadata = fields.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    user = user or fields.get("user")
    if isinstance(user, str) and user:
        asked["metadata"] = {"user_id": user}
    tier = fields.get("service_tier")
    if isinstance(tier, str) and (named := _TIERS.get(tier.strip().lower())):
        asked["service_tier"] = named

"""The only list of the fields of a message request: what becomes of each on its way to a chat completion. Pure.

The world is closed, as Anthropic's own is: a field that stands here in no row is refused. ``docs/messages.md`` shows the
same list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingress.apis.translated_fields import TranslatedField, by_name

__all__ = ["FIELDS", "MESSAGE_FIELDS"]

MESSAGE_FIELDS: Final = (
    TranslatedField("model", "as it is", "names the model"),
    TranslatedField("max_tokens", "as it is", "required; the bound of the output"),
    TranslatedField("temperature", "as it is", "a number"),
    TranslatedField("top_p", "as it is", "a number"),
    TranslatedField("top_k", "as it is", "an integer; backends that know no `top_k` may refuse it"),
    TranslatedField("stream", "as it is", "true or false"),
    TranslatedField("messages", "translated", "texts, pictures, documents, calls of tools and their results"),
    TranslatedField("system", "translated", "the first message, of role `system`"),
    TranslatedField("stop_sequences", "translated", "`stop`"),
    TranslatedField("tools", "translated", "functions; tools that Anthropic hosts or defines are refused"),
    TranslatedField("tool_choice", "translated", "`any` is `required`; `disable_parallel_tool_use` is `parallel_tool_calls`"),
    TranslatedField("output_config", "translated", "`format` is `response_format`; `effort` and others are left out"),
    TranslatedField("output_format", "translated", "the older name of `output_config.format`"),
    TranslatedField("thinking", "left out", "backends of OpenAI's protocol decide on thoughts themselves; thoughts are not shown"),
    TranslatedField("metadata", "left out", "tells who asks; the key does that here"),
    TranslatedField("service_tier", "left out", "the backend's default tier is used"),
    TranslatedField("cache_control", "left out", "also in blocks and tools: no writes to a cache are asked for"),
    TranslatedField("context_management", "left out", "nothing is cleared; what was sent is what is read"),
    TranslatedField("diagnostics", "left out", "nothing is diagnosed"),
    TranslatedField("speed", "left out", "the backend's one speed"),
    TranslatedField("user_profile_id", "left out", "the key says who asks"),
    TranslatedField("workspace_id", "left out", "the key says who asks"),
    TranslatedField("compaction", "left out", "nothing is compacted; what was sent is what is read"),
    TranslatedField("fallbacks", "left out", "which backends answer for a model is configured"),
    TranslatedField("fallback_credit_token", "left out", "of fallbacks"),
    TranslatedField("billing_policy", "left out", "the key says who pays"),
    TranslatedField("container", "refused", "there are no containers"),
    TranslatedField("inference_geo", "refused", "nobody here can promise a region"),
    TranslatedField("mcp_servers", "refused", "no servers of tools are called"),
    TranslatedField("thread", "refused", "no conversation is kept here: send all of it; the SDK then does so by itself"),
)  # fmt: skip

FIELDS: Final[Mapping[str, TranslatedField]] = by_name(*MESSAGE_FIELDS)

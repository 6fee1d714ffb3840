"""The only list of the fields of a message request: what becomes of each on its way to a chat completion. Pure.

The world is closed, as Anthropic's own is: a field that stands here in no row is refused. ``docs/messages.md`` shows the
same list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = ["FIELDS", "MESSAGE_FIELDS", "Fate", "MessageField"]

Fate: TypeAlias = Literal["as it is", "translated", "left out", "refused"]
"""What becomes of a field. What is left out changes neither what the answer means nor what it may cost; what is refused
would."""


class MessageField(NamedTuple):
    """One field at the top of a body."""

    name: str
    fate: Fate
    why: str


MESSAGE_FIELDS: Final = (
    MessageField("model", "as it is", "names the model"),
    MessageField("max_tokens", "as it is", "required; the bound of the output"),
    MessageField("temperature", "as it is", "a number"),
    MessageField("top_p", "as it is", "a number"),
    MessageField("top_k", "as it is", "an integer; backends that know no `top_k` may refuse it"),
    MessageField("stream", "as it is", "true or false"),
    MessageField("messages", "translated", "texts, pictures, documents, calls of tools and their results"),
    MessageField("system", "translated", "the first message, of role `system`"),
    MessageField("stop_sequences", "translated", "`stop`"),
    MessageField("tools", "translated", "functions; tools that Anthropic hosts or defines are refused"),
    MessageField("tool_choice", "translated", "`any` is `required`; `disable_parallel_tool_use` is `parallel_tool_calls`"),
    MessageField("output_config", "translated", "`format` is `response_format`; `effort` and others are left out"),
    MessageField("output_format", "translated", "the older name of `output_config.format`"),
    MessageField("thinking", "left out", "backends of OpenAI's protocol decide on thoughts themselves; thoughts are not shown"),
    MessageField("metadata", "left out", "tells who asks; the key does that here"),
    MessageField("service_tier", "left out", "the backend's default tier is used"),
    MessageField("cache_control", "left out", "also in blocks and tools: no writes to a cache are asked for"),
    MessageField("context_management", "left out", "nothing is cleared; what was sent is what is read"),
    MessageField("diagnostics", "left out", "nothing is diagnosed"),
    MessageField("speed", "left out", "the backend's one speed"),
    MessageField("user_profile_id", "left out", "the key says who asks"),
    MessageField("workspace_id", "left out", "the key says who asks"),
    MessageField("compaction", "left out", "nothing is compacted; what was sent is what is read"),
    MessageField("fallbacks", "left out", "which backends answer for a model is configured"),
    MessageField("fallback_credit_token", "left out", "of fallbacks"),
    MessageField("billing_policy", "left out", "the key says who pays"),
    MessageField("container", "refused", "there are no containers"),
    MessageField("inference_geo", "refused", "nobody here can promise a region"),
    MessageField("mcp_servers", "refused", "no servers of tools are called"),
    MessageField("thread", "refused", "no conversation is kept here: send all of it; the SDK then does so by itself"),
)  # fmt: skip

FIELDS: Final[Mapping[str, MessageField]] = {row.name: row for row in MESSAGE_FIELDS}

"""The only list of the fields of a message request: what becomes of each on its way to a chat completion, and what it does to
the bill where it goes to Anthropic's protocol as it came. Pure.

The world is closed, as Anthropic's own is: a field that stands here in no row is refused, or follows ``unknown_fields`` of
a model whose requests are passed. ``docs/messages.md`` shows the same list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from ingress.apis.openai.request_fields import Effect, Field
from ingress.apis.translated_fields import Fate, TranslatedField, by_name

__all__ = ["FIELDS", "MESSAGE_FIELDS", "PASSED", "MessageField"]


class MessageField(NamedTuple):
    """One field at the top of a body."""

    name: str
    fate: Fate
    passed: Effect | Literal["refused"]
    """What it does to the bill where it is passed."""
    why: str


MESSAGE_FIELDS: Final = (
    MessageField("model", "as it is", "free", "names the model"),
    MessageField("max_tokens", "as it is", "bounded", "required; the bound of the output"),
    MessageField("temperature", "as it is", "free", "a number"),
    MessageField("top_p", "as it is", "free", "a number"),
    MessageField("top_k", "as it is", "free", "an integer; backends that know no `top_k` may refuse it"),
    MessageField("stream", "as it is", "free", "true or false"),
    MessageField("messages", "translated", "bounded", "texts, pictures, documents, calls of tools and their results"),
    MessageField("system", "translated", "bounded", "the first message, of role `system`"),
    MessageField("stop_sequences", "translated", "free", "`stop`"),
    MessageField("tools", "translated", "bounded", "functions; tools that Anthropic hosts or defines are refused"),
    MessageField("tool_choice", "translated", "bounded", "`any` is `required`; `disable_parallel_tool_use` is `parallel_tool_calls`"),
    MessageField("output_config", "translated", "bounded", "`format` is `response_format`; `effort` and others are left out"),
    MessageField("output_format", "translated", "bounded", "the older name of `output_config.format`"),
    MessageField("thinking", "left out", "bounded", "backends of OpenAI's protocol decide on thoughts themselves; thoughts are not shown"),
    MessageField("anthropic_beta", "left out", "free", "the names in the header of that name; which of them pass the backend says"),
    MessageField("metadata", "left out", "free", "tells who asks; the key does that here"),
    MessageField("service_tier", "left out", "priced", "`flex` waits for room ([flex](flex.md)); of others the backend's default tier is used"),
    MessageField("cache_control", "left out", "priced", "also in blocks and tools: no writes to a cache are asked for"),
    MessageField("context_management", "left out", "free", "nothing is cleared; what was sent is what is read"),
    MessageField("diagnostics", "left out", "free", "nothing is diagnosed"),
    MessageField("speed", "left out", "costly", "the backend's one speed"),
    MessageField("user_profile_id", "left out", "costly", "the key says who asks"),
    MessageField("workspace_id", "left out", "costly", "the key says who asks"),
    MessageField("compaction", "left out", "costly", "nothing is compacted; what was sent is what is read"),
    MessageField("fallbacks", "left out", "costly", "which backends answer for a model is configured"),
    MessageField("fallback_credit_token", "left out", "costly", "of fallbacks"),
    MessageField("billing_policy", "left out", "costly", "the key says who pays"),
    MessageField("container", "refused", "costly", "there are no containers"),
    MessageField("inference_geo", "refused", "costly", "nobody here can promise a region"),
    MessageField("mcp_servers", "refused", "costly", "no servers of tools are called"),
    MessageField("thread", "refused", "refused", "no conversation is kept here: send all of it; the SDK then does so by itself"),
)  # fmt: skip

FIELDS: Final[Mapping[str, TranslatedField]] = by_name(
    *(TranslatedField(row.name, row.fate, row.why) for row in MESSAGE_FIELDS)
)
PASSED: Final[Mapping[str, Field]] = {
    row.name: Field(row.name, row.passed, row.why, "Anthropic, messages")
    for row in MESSAGE_FIELDS
    if row.passed != "refused"
}
"""What each field does to the bill of a request that is passed."""

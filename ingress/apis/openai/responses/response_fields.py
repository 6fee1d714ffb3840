"""The only list of the fields of a response request: what becomes of each on its way to a chat completion. Pure.

The world is closed, as OpenAI's own is: a field that stands here in no row is refused. ``docs/responses.md`` shows the
same list, without the fields of sampling, which chat completions have, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingress.apis.openai.request_fields import CHAT, SAMPLING
from ingress.apis.translated_fields import TranslatedField, by_name

__all__ = ["FIELDS", "RESPONSE_FIELDS", "SAMPLED"]

RESPONSE_FIELDS: Final = (
    TranslatedField("model", "as it is", "names the model"),
    TranslatedField("temperature", "as it is", "a number"),
    TranslatedField("top_p", "as it is", "a number"),
    TranslatedField("stream", "as it is", "true or false"),
    TranslatedField("parallel_tool_calls", "as it is", "true or false"),
    TranslatedField("service_tier", "as it is", "where a budget applies, the model's prices must state it"),
    TranslatedField("user", "as it is", "a string"),
    TranslatedField("safety_identifier", "as it is", "a string"),
    TranslatedField("prompt_cache_key", "as it is", "a string"),
    TranslatedField("prompt_cache_retention", "as it is", "writes to a cache"),
    TranslatedField("prompt_cache_options", "as it is", "writes to a cache"),
    TranslatedField("input", "translated", "required: a text, or messages, calls of functions and their outputs"),
    TranslatedField("instructions", "translated", "the first message, of role `system`"),
    TranslatedField("max_output_tokens", "translated", "`max_tokens`; without it the model's own default"),
    TranslatedField("text", "translated", "`format` is `response_format`, `verbosity` as it is"),
    TranslatedField("reasoning", "translated", "`effort` is `reasoning_effort`; of thoughts nothing is shown"),
    TranslatedField("tools", "translated", "functions; tools that OpenAI hosts or defines are refused"),
    TranslatedField("tool_choice", "translated", "`auto`, `none`, `required` or a function"),
    TranslatedField("include", "translated", "`message.output_text.logprobs` is `logprobs`; others bring nothing here"),
    TranslatedField("top_logprobs", "translated", "with those logprobs"),
    TranslatedField("metadata", "left out", "shown in the response"),
    TranslatedField("background", "translated", "a job: answered at once, or followed by its events; not with `store` false"),
    TranslatedField("previous_response_id", "translated", "the messages of that response, and its answer, before the input"),
    TranslatedField("store", "left out", "`false`: nobody can go on from it, nor read it again"),
    TranslatedField("truncation", "left out", "`disabled` only: what was sent is what is read"),
    TranslatedField("stream_options", "left out", "nothing is obfuscated"),
    TranslatedField("max_tool_calls", "left out", "limits hosted tools, of which there are none"),
    TranslatedField("context_management", "left out", "nothing is compacted; what was sent is what is read"),
    TranslatedField("image", "left out", "the backend decides on compression"),
    TranslatedField("background_options", "refused", "there are no windows of completion"),
    TranslatedField("conversation", "refused", "there are none: go on from a `previous_response_id`"),
    TranslatedField("prompt", "refused", "there are no templates here: send the text"),
    TranslatedField("moderation", "refused", "nothing is moderated here"),
    TranslatedField("access_programs", "refused", "nobody here can grant them"),
)  # fmt: skip

SAMPLED: Final = frozenset(name for name, row in CHAT.items() if row.why == SAMPLING) - {
    row.name for row in RESPONSE_FIELDS
}
"""Further fields of chat completions that choose among tokens: they go to the backend as they are."""

FIELDS: Final[Mapping[str, TranslatedField]] = by_name(
    *RESPONSE_FIELDS, *(TranslatedField(name, "as it is", SAMPLING) for name in sorted(SAMPLED))
)

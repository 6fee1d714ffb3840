"""Recognises that a request was longer than its model's context, in the words of each server. Pure.

Programs shorten their conversation when they see OpenAI's code ``context_length_exceeded``; most servers have only a
text. What throttles is told apart first: Bedrock says "Too many tokens, please wait". Texts as collected in
earendil-works/pi#129, earendil-works/pi#6262, jin-bo/agentao#88, openclaw/openclaw#58839, openclaw/openclaw#20539.
"""

from __future__ import annotations

import re
from typing import Final

CODE: Final = "context_length_exceeded"
"""OpenAI's, which SDKs and agents know."""
CODES: Final = frozenset(
    {
        CODE,
        "exceed_context_size_error",  # llama.cpp
        "model_context_window_exceeded",  # Anthropic
        "context_window_exceeded",
        "string_above_max_length",
    }
)
_THROTTLED: Final = re.compile(
    r"please wait|rate limit|throttl|too many requests|per minute", re.IGNORECASE
)
TEXTS: Final[dict[str, str]] = {
    "OpenAI, Azure, vLLM, DeepSeek, OpenRouter": r"maximum context length",
    "vLLM": r"longer than the maximum model length",
    "SGLang": r"longer than the model'?s context length",
    "llama.cpp": r"exceeds? the available context size",
    "llama.cpp of old": r"exceeds? context (size|limit|length|window)",
    "ds4": r"configured context size is [\d,]+ tokens",
    "Anthropic": r"prompt is too long",
    "Anthropic, with its output": r"exceeds? (the )?context (limit|window)",
    "OpenAI's responses": r"exceeds? the context window",
    "Mistral": r"too large for model with [\d,]+ maximum context",
    "Fireworks": r"model maximum context length",
    "Gemini": r"input token count .{0,80}exceeds the maximum number of tokens",
    "Bedrock": r"input is too long for requested model|the input is too long",
    "Bedrock, in tokens": r"exceeds the max(imum)? input token limit",
    "xAI": r"maximum prompt length is [\d,]+",
    "Groq": r"reduce the length of the messages",
    "Cohere": r"total number of tokens in the prompt cannot exceed|tokens exceeds the model'?s max",
    "Ollama": r"input length exceeds (the |the maximum |maximum )?context length",
    "Ollama, LM Studio": r"context length (was |is )?exceeded|greater than the context length",
    "TGI, Together": r"inputs` tokens \+ `max_new_tokens` must be <=",
    "TGI": r"`inputs` must have less than [\d,]+ tokens",
    "Kimi": r"exceeded model token limit",
}
"""Whose words, and what of them does not change from one version to the next."""
_TEXT: Final = re.compile("|".join(f"(?:{text})" for text in TEXTS.values()), re.IGNORECASE)


def is_context_overflow(message: str | None, code: str | None, kind: str | None) -> bool:
    """Whether an error's message, code or type says so."""
    if code in CODES or kind in CODES:
        return True
    if not message or _THROTTLED.search(message):
        return False
    return _TEXT.search(message) is not None

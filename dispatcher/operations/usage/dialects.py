"""Names that backends give to what they count: one row for each dialect, with its source. Pure.

A count has one meaning here and many names there. Where a name stands inside of another object its path has a
dot; a path is looked for in the usage object and in what ``places`` finds. How the counts are put together, and
what is told apart by the total, stands in ``reading``. The table of examples is ``docs/usage-dialects.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["DIALECTS", "NAMES", "PLACES", "TOOLS", "Count", "UsageDialect"]

Count: TypeAlias = Literal[
    "input",
    "input_more",
    "cached",
    "cached_beside",
    "written",
    "written_beside",
    "written_5m",
    "written_1h",
    "output",
    "reasoning",
    "output_more",
    "total",
    "audio_input",
    "image_input",
    "audio_output",
    "image_output",
]
"""What a name counts. ``cached`` and ``written`` are part of the input, ``cached_beside`` and ``written_beside``
are not where the input is called as in that dialect; ``reasoning`` may be part of the output or stand beside it,
``input_more`` and ``output_more`` always do."""


@dataclass(frozen=True, slots=True)
class UsageDialect:
    """How one family of backends names its counts."""

    name: str
    source: str
    """Where that is documented, or whose report shows it."""
    paths: dict[Count, tuple[str, ...]]
    place: tuple[str, ...] = ("usage",)
    """Where in a body the object with these names stands; of a list its last item."""


DIALECTS: Final = (
    UsageDialect(
        "OpenAI chat completions",
        "https://platform.openai.com/docs/api-reference/chat/object",
        {
            "input": ("prompt_tokens",),
            "cached": ("prompt_tokens_details.cached_tokens",),
            "written": ("prompt_tokens_details.cache_write_tokens",),
            "audio_input": ("prompt_tokens_details.audio_tokens",),
            "image_input": ("prompt_tokens_details.image_tokens",),
            "output": ("completion_tokens",),
            "reasoning": ("completion_tokens_details.reasoning_tokens",),
            "audio_output": ("completion_tokens_details.audio_tokens",),
            "image_output": ("completion_tokens_details.image_tokens",),
            "total": ("total_tokens",),
        },
    ),
    UsageDialect(
        "OpenAI responses",
        "https://platform.openai.com/docs/api-reference/responses/object",
        {
            "input": ("input_tokens",),
            "cached": ("input_tokens_details.cached_tokens",),
            "written": ("input_tokens_details.cache_write_tokens",),
            "audio_input": (
                "input_tokens_details.audio_tokens",
                "input_token_details.audio_tokens",
            ),
            "image_input": (
                "input_tokens_details.image_tokens",
                "input_token_details.image_tokens",
            ),
            "output": ("output_tokens",),
            "reasoning": ("output_tokens_details.reasoning_tokens",),
            "audio_output": (
                "output_tokens_details.audio_tokens",
                "output_token_details.audio_tokens",
            ),
            "image_output": (
                "output_tokens_details.image_tokens",
                "output_token_details.image_tokens",
            ),
        },
    ),
    UsageDialect(
        "Anthropic",
        "https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#tracking-cache-performance",
        {
            "input": ("input_tokens",),
            "cached_beside": ("cache_read_input_tokens",),
            "written_beside": ("cache_creation_input_tokens",),
            "written_5m": ("cache_creation.ephemeral_5m_input_tokens",),
            "written_1h": ("cache_creation.ephemeral_1h_input_tokens",),
            "output": ("output_tokens",),
            "reasoning": ("output_tokens_details.thinking_tokens",),
        },
    ),
    UsageDialect(
        "LiteLLM proxy",
        "https://github.com/larsderidder/context-lens/issues/51",
        {"written": ("prompt_tokens_details.cache_creation_tokens",)},
    ),
    UsageDialect(
        "new-api",
        "https://github.com/QuantumNous/new-api",
        {
            "written_5m": ("claude_cache_creation_5_m_tokens",),
            "written_1h": ("claude_cache_creation_1_h_tokens",),
        },
    ),
    UsageDialect(
        "DashScope (Qwen)",
        "https://www.alibabacloud.com/help/en/model-studio/context-cache",
        {
            "written": ("prompt_tokens_details.cache_creation_input_tokens",),
            "written_5m": ("prompt_tokens_details.cache_creation.ephemeral_5m_input_tokens",),
        },
    ),
    UsageDialect(
        "DeepSeek",
        "https://api-docs.deepseek.com/api/create-chat-completion",
        {"cached": ("prompt_cache_hit_tokens",)},
    ),
    UsageDialect(
        "Moonshot",
        "https://platform.kimi.ai/docs/api/chat",
        {"cached": ("cached_tokens",)},
    ),
    UsageDialect(
        "Moonshot streams",
        "https://github.com/earendil-works/pi/issues/2017",
        {},
        ("choices", "usage"),
    ),
    UsageDialect("Groq", "https://github.com/vercel/ai/issues/1651", {}, ("x_groq", "usage")),
    UsageDialect(
        "SGLang, Perplexity",
        "https://github.com/sgl-project/sglang/pull/15562",
        {"reasoning": ("reasoning_tokens",), "input_more": ("citation_tokens",)},
    ),
    UsageDialect(
        "Gemini",
        "https://ai.google.dev/api/generate-content#UsageMetadata",
        {
            "input": ("promptTokenCount",),
            "input_more": ("toolUsePromptTokenCount",),
            "cached": ("cachedContentTokenCount",),
            "output": ("candidatesTokenCount",),
            "output_more": ("thoughtsTokenCount",),
            "total": ("totalTokenCount",),
        },
        ("usageMetadata",),
    ),
    UsageDialect(
        "Bedrock",
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html",
        {
            "input": ("inputTokens",),
            "cached_beside": ("cacheReadInputTokens",),
            "written_beside": ("cacheWriteInputTokens",),
            "output": ("outputTokens",),
            "total": ("totalTokens",),
        },
    ),
    UsageDialect(
        "Cohere",
        "https://docs.cohere.com/v2/docs/how-does-cohere-pricing-work",
        {
            "input": ("billed_units.input_tokens",),
            "output": ("billed_units.output_tokens",),
        },
        ("meta",),
    ),
    UsageDialect(
        "Ollama",
        "https://docs.ollama.com/api/usage",
        {
            "input": ("prompt_eval_count",),
            "cached": ("prompt_eval_cached_count",),
            "output": ("eval_count",),
        },
        (),
    ),
    UsageDialect(
        "llama.cpp timings",
        "https://github.com/ggml-org/llama.cpp/pull/15827",
        {"input": ("prompt_n",), "cached_beside": ("cache_n",), "output": ("predicted_n",)},
        ("timings",),
    ),
)

NAMES: Final[dict[str, Count]] = {
    path: count for dialect in DIALECTS for count, paths in dialect.paths.items() for path in paths
}
"""What each name counts; of several that say the same the largest is believed."""
PLACES: Final = tuple(dict.fromkeys(dialect.place for dialect in DIALECTS))
TOOLS: Final = {
    "server_tool_use.web_search_requests": "web_search",
    "num_search_queries": "web_search",
    "server_side_tool_usage_details.web_search_calls": "web_search",
    "server_side_tool_usage_details.x_search_calls": "x_search",
    "server_side_tool_usage_details.code_interpreter_calls": "code_interpreter",
    "server_side_tool_usage_details.file_search_calls": "file_search",
    "server_side_tool_usage_details.mcp_calls": "mcp",
    "num_sources_used": "live_search",
}
"""Calls of hosted tools that are billed, by kind. Sources: Anthropic and OpenRouter (``server_tool_use``; its
fetches are free), langchain-ai/langchain#39175 (Perplexity), BerriAI/litellm#30817 (xAI)."""

"""The only list of the fields of a request body: what each does to the bill, and who says so. Pure.

The world is closed: what can change a bill is counted in the bound, read into what the request can reach of its
price, or refused where a budget applies. ``docs/request-fields.md`` shows the same list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = [
    "CHAT",
    "EMBEDDINGS",
    "PLAIN",
    "PLAIN_EMBEDDINGS",
    "PLAIN_TEXT",
    "SAMPLING",
    "TEXT",
    "Effect",
    "Field",
]

Effect: TypeAlias = Literal["free", "bounded", "priced", "costly"]
"""What a field does to the bill: nothing; it is counted in the bound of tokens; it is read into the reach, which the
price must state; or it may cost what nothing here bounds, and is treated as an unknown field is."""


class Field(NamedTuple):
    """One field at the top of a body."""

    name: str
    effect: Effect
    why: str
    source: str


_OPENAI: Final = "OpenAI, chat completions"
_VLLM: Final = "vLLM, extra parameters"
_SGLANG: Final = "SGLang, sampling parameters"
_LLAMA: Final = "llama.cpp, server"
_ROUTER: Final = "OpenRouter"
_MISTRAL: Final = "Mistral, chat completions"
_ANTHROPIC: Final = "Anthropic, messages"


def _all(effect: Effect, why: str, source: str, *names: str) -> Iterator[Field]:
    return (Field(name, effect, why, source) for name in names)


SAMPLING: Final = "chooses among tokens"
_SHAPE: Final = "shapes the answer within its limit; its text counts as input"

_CHAT: Final = (
    Field("model", "free", "names the model, whose price it is", _OPENAI),
    *_all("bounded", "counted as input: bytes, media, 16 for each", _OPENAI, "messages"),
    *_all("bounded", "functions are counted as input; hosted tools are priced", _OPENAI, "tools"),
    *_all("bounded", "counted as input", _OPENAI, "functions"),
    *_all("bounded", "limits the output", _OPENAI, "max_tokens", "max_completion_tokens"),
    *_all("bounded", "multiplies the output", _OPENAI, "n"),
    *_all("bounded", "multiplies the output", _VLLM, "best_of"),
    *_all("bounded", "rejected tokens are billed as output: its bytes are added", _OPENAI, "prediction"),
    *_all("bounded", "thoughts are output, within its limit", _OPENAI, "reasoning_effort", "verbosity"),
    *_all("bounded", "thoughts are output, within its limit", _ANTHROPIC, "thinking", "output_config"),
    *_all("bounded", "thoughts are output, within its limit", _ROUTER, "reasoning", "include_reasoning"),
    *_all("bounded", "thoughts are output, within its limit", "Alibaba Cloud", "enable_thinking", "thinking_budget"),
    *_all("bounded", _SHAPE, _OPENAI, "response_format", "tool_choice", "function_call"),
    *_all("bounded", _SHAPE, _MISTRAL, "prompt_mode", "safe_prompt"),
    *_all(
        "bounded", _SHAPE, _VLLM,
        "guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_decoding_backend",
        "guided_whitespace_pattern", "structured_outputs", "chat_template_kwargs", "documents",
    ),
    *_all("bounded", _SHAPE, _LLAMA, "grammar", "json_schema", "reasoning_format"),
    *_all("bounded", _SHAPE, _SGLANG, "regex", "ebnf", "separate_reasoning"),
    *_all(
        "free", SAMPLING, _OPENAI,
        "temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "seed", "stop",
    ),
    *_all(
        "free", SAMPLING, _VLLM,
        "top_k", "min_p", "repetition_penalty", "length_penalty", "stop_token_ids", "bad_words", "allowed_token_ids",
        "ignore_eos", "min_tokens", "include_stop_str_in_output", "use_beam_search", "early_stopping",
    ),
    *_all(
        "free", SAMPLING, _LLAMA,
        "typical_p", "tfs_z", "mirostat", "mirostat_tau", "mirostat_eta", "repeat_penalty", "repeat_last_n",
        "dynatemp_range", "dynatemp_exponent", "samplers", "dry_multiplier", "dry_base", "dry_allowed_length",
        "xtc_probability", "xtc_threshold", "cache_prompt", "id_slot", "timings_per_token",
    ),
    *_all("free", SAMPLING, _MISTRAL, "random_seed"),
    *_all("free", SAMPLING, _ROUTER, "top_a"),
    *_all("free", SAMPLING, _SGLANG, "no_stop_trim"),
    *_all("free", "how the answer is sent", _OPENAI, "stream", "stream_options", "logprobs", "top_logprobs"),
    *_all(
        "free", "how the answer is sent", _VLLM,
        "echo", "prompt_logprobs", "return_tokens_as_token_ids", "return_token_ids", "skip_special_tokens",
        "spaces_between_special_tokens", "request_id", "priority", "cache_salt",
    ),
    *_all("free", "takes part of the prompt away, or marks its end", _VLLM, "truncate_prompt_tokens"),
    *_all("free", "takes part of the prompt away, or marks its end", _VLLM, "add_generation_prompt"),
    *_all("free", "takes part of the prompt away, or marks its end", _VLLM, "continue_final_message"),
    *_all("free", "takes part of the prompt away, or marks its end", _VLLM, "add_special_tokens"),
    *_all(
        "free", "tells who asks", _OPENAI,
        "user", "safety_identifier", "metadata", "prompt_cache_key",
    ),
    *_all("free", "kept by the backend at no charge", _OPENAI, "store"),
    *_all("free", "checked by the backend at no charge", _OPENAI, "moderation"),
    *_all("free", "one call or many, within the limit of the output", _OPENAI, "parallel_tool_calls"),
    *_all("priced", "the tier's price; flex waits for room, fast is another name of priority", _OPENAI, "service_tier"),
    *_all("priced", "audio and images that are made", _OPENAI, "modalities", "audio"),
    *_all("priced", "hosted web searches", _OPENAI, "web_search_options"),
    *_all("priced", "writes to a cache", _OPENAI, "prompt_cache_options", "prompt_cache_retention"),
    *_all("priced", "writes to a cache; also in messages, parts and tools", _ANTHROPIC, "cache_control"),
    *_all("costly", "searches are billed", "xAI, live search", "search_parameters"),
    *_all("costly", "searches are billed", "Alibaba Cloud", "enable_search", "search_options"),
    *_all("costly", "searches are billed", "Perplexity", "web_search", "search_mode"),
    *_all("costly", "other models, providers or tools, at their prices", _ROUTER, "models", "route", "provider", "plugins"),
    *_all("costly", "a faster mode at several times the price", _ANTHROPIC, "speed"),
    *_all("costly", "a region has a price of its own", _ANTHROPIC, "inference_geo"),
    *_all("costly", "containers and servers of tools are billed", _ANTHROPIC, "container", "mcp_servers"),
    *_all("costly", "runs on by itself, or brings what was said before", "OpenAI, responses", "background"),
    *_all("costly", "brings what was said before, which nothing bounds", "OpenAI, responses", "previous_response_id"),
    *_all("costly", "brings what was said before, which nothing bounds", "OpenAI, responses", "conversation"),
    *_all("costly", "another limit of the output, which may win", _LLAMA, "n_predict"),
    *_all("costly", "another limit of the output, which may win", "Ollama", "num_predict", "options"),
    *_all("costly", "another limit of the output, which may win", "text-generation-inference", "max_new_tokens"),
    *_all("costly", "makes the prompt, as long as it likes", _VLLM, "chat_template", "prompt_embeds"),
    *_all("costly", "changes what a picture counts as", _VLLM, "mm_processor_kwargs", "media_io_kwargs"),
    *_all("costly", "fields of another protocol", "LiteLLM", "extra_body"),
)  # fmt: skip

_COMPLETIONS: Final = "OpenAI, completions"
_OF_CHAT_ONLY: Final = frozenset(
    {"messages", "tools", "functions", "max_completion_tokens", "prediction", "modalities", "audio", "web_search_options"}
)  # fmt: skip
"""Fields of a chat completion that a text completion does not have, and that would not be read there."""
_TEXT: Final = (
    *(row for row in _CHAT if row.name not in _OF_CHAT_ONLY),
    *_all("bounded", "counted as input: bytes, 16 for each; multiplies the output", _COMPLETIONS, "prompt"),
    *_all("bounded", "counted as input", _COMPLETIONS, "suffix"),
    *_all("bounded", "repeats the prompt, which is added to the output", _COMPLETIONS, "echo"),
    *_all("bounded", "limits the output", _COMPLETIONS, "max_tokens"),
    *_all("bounded", "multiplies the output", _COMPLETIONS, "n", "best_of"),
)  # fmt: skip

_EMBEDDINGS: Final = (
    Field("model", "free", "names the model, whose price it is", "OpenAI, embeddings"),
    *_all("bounded", "counted as input: bytes, 16 for each", "OpenAI, embeddings", "input"),
    *_all("free", "how the answer is sent", "OpenAI, embeddings", "encoding_format", "dimensions"),
    *_all("free", "tells who asks", "OpenAI, embeddings", "user"),
    *_all("free", "flex waits for room, others run at once; no backend is told", _OPENAI, "service_tier"),
    *_all("free", "false where it is given", "OpenAI, chat completions", "stream"),
    *_all("free", "what the vectors are for", "Jina, Voyage, Cohere", "task", "input_type"),
    *_all("free", "takes part of a text away", "Jina, Voyage, vLLM", "truncate", "truncation"),
    *_all("free", "takes part of a text away", _VLLM, "truncate_prompt_tokens"),
    *_all("free", "how the answer is sent", "Jina, Mistral", "normalized", "embedding_type", "output_dtype"),
    *_all("free", "how the answer is sent", "Mistral, Voyage", "output_dimension"),
    *_all("free", "tells who asks", _VLLM, "priority", "add_special_tokens"),
)  # fmt: skip

CHAT: Final[Mapping[str, Field]] = {row.name: row for row in _CHAT}
TEXT: Final[Mapping[str, Field]] = {row.name: row for row in _TEXT}
"""Of text completions."""
EMBEDDINGS: Final[Mapping[str, Field]] = {row.name: row for row in _EMBEDDINGS}


def _plain(rows: Mapping[str, Field]) -> frozenset[str]:
    return frozenset(name for name, row in rows.items() if row.effect in ("free", "bounded"))


PLAIN: Final = _plain(CHAT) - {"prediction"}
"""Fields of a chat completion that need no second look; hosted ``tools`` do."""
PLAIN_TEXT: Final = _plain(TEXT)
PLAIN_EMBEDDINGS: Final = _plain(EMBEDDINGS)

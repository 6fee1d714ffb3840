"""Writes a model with random weights and a vocabulary of bytes: `python tiny_model.py FILE.gguf`. Needs gguf, numpy.

Its chat template is the one of Qwen 2.5 (Apache-2.0), shortened, because llama.cpp learns from the template how a tool is called. A token
of its own begins a call: with a bias on it even such a model calls tools, the rest of the call being forced by grammar.
"""

from __future__ import annotations

import sys

import gguf  # type: ignore[import-not-found]
import numpy as np  # type: ignore[import-not-found]

TOOL_TOKEN = 259
_WIDTH, _LAYERS, _HEADS, _FEED, _CONTEXT = 64, 2, 4, 128, 16_384
_TEMPLATE = r"""{%- if tools %}{{- '<|im_start|>system\n' }}{%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
{{- "\nReturn a json object within <tool_call></tool_call> tags:\n<tool_call>\n{\"name\": <name>, \"arguments\": <object>}\n</tool_call><|im_end|>\n" }}
{%- endif %}{%- for message in messages %}{%- if message.role == "user" or message.role == "system" %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- elif message.role == "assistant" %}
{{- '<|im_start|>assistant\n' + (message.content or '') }}{%- if message.tool_calls %}{%- for tool_call in message.tool_calls %}
{%- if (loop.first and message.content) or (not loop.first) %}{{- '\n' }}{%- endif %}
{%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
{{- '<tool_call>\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}{{- tool_call.arguments | tojson }}{{- '}\n</tool_call>' }}
{%- endfor %}{%- endif %}{{- '<|im_end|>\n' }}{%- elif message.role == "tool" %}
{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""


def write(path: str) -> None:
    """The file, the same each time."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer)
    _add_weights(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokens = [
        b"<unk>",
        b"<s>",
        b"</s>",
        *(b"<0x%02X>" % byte for byte in range(256)),
        b"<tool_call>\n",
    ]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.USER_DEFINED]
    assert tokens.index(b"<tool_call>\n") == TOOL_TOKEN
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(_TEMPLATE)


def _add_weights(writer: gguf.GGUFWriter) -> None:
    random = np.random.default_rng(7)
    vocabulary = TOOL_TOKEN + 1

    def noise(name: str, *shape: int) -> None:
        scaled = random.standard_normal(shape) * 0.5 / np.sqrt(shape[-1])
        writer.add_tensor(name, scaled.astype(np.float32))

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(_WIDTH, dtype=np.float32))

    noise("token_embd.weight", vocabulary, _WIDTH)
    noise("output.weight", vocabulary, _WIDTH)
    ones("output_norm.weight")
    for layer in (f"blk.{number}." for number in range(_LAYERS)):
        ones(f"{layer}attn_norm.weight")
        ones(f"{layer}ffn_norm.weight")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            noise(f"{layer}{name}.weight", _WIDTH, _WIDTH)
        noise(f"{layer}ffn_gate.weight", _FEED, _WIDTH)
        noise(f"{layer}ffn_up.weight", _FEED, _WIDTH)
        noise(f"{layer}ffn_down.weight", _WIDTH, _FEED)


if __name__ == "__main__":
    write(sys.argv[1])

"""A streamed chat completion with the openai SDK, and its usage in the last chunk.

OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom; TALLYGATE_MODEL names a model.
"""

from __future__ import annotations

import os
import sys

from openai import APIStatusError, OpenAI

client = OpenAI()
try:
    # A refusal (402, 429, 503) raises here and never in the middle: headers wait for the verdict.
    chunks = client.chat.completions.create(
        model=os.environ.get("TALLYGATE_MODEL", "echo-1"),
        messages=[{"role": "user", "content": "one two three four"}],
        stream=True,
        stream_options={"include_usage": True},
    )
except APIStatusError as refusal:
    sys.exit(f"refused: {refusal.status_code} {refusal.code}: {refusal.message}")
for chunk in chunks:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
    if chunk.usage is not None:
        print(f"\ntokens: {chunk.usage.prompt_tokens} in, {chunk.usage.completion_tokens} out")

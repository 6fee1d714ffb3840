"""A chat model of LangChain: an answer with its usage, and one as it comes.

OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom; TALLYGATE_MODEL names a model.
"""

from __future__ import annotations

import os

from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    model=os.environ.get("TALLYGATE_MODEL", "echo-1"),
    # Tries again as the gateway asks; a key of its own would make that free: Idempotency-Key.
    max_retries=2,
    stream_usage=True,
)
answer = model.invoke("hello from a chain")
print(answer.content)
print(
    f"tokens: {answer.usage_metadata['input_tokens']} in, {answer.usage_metadata['output_tokens']} out"
)

for piece in model.stream("one two three four"):
    print(piece.content, end="", flush=True)
print()

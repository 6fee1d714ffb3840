"""One chat completion with the openai SDK.

OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom; TALLYGATE_MODEL names a model.
"""

from __future__ import annotations

import os

from openai import OpenAI

client = OpenAI()
raw = client.chat.completions.with_raw_response.create(
    model=os.environ.get("TALLYGATE_MODEL", "echo-1"),
    messages=[{"role": "user", "content": "hello from the ledger"}],
)
answer = raw.parse()
print(answer.choices[0].message.content)
print(f"tokens: {answer.usage.prompt_tokens} in, {answer.usage.completion_tokens} out")
# Whoever asks about this request later needs its id: tallygate requests show <id>.
print(f"request: {raw.headers['x-request-id']}")

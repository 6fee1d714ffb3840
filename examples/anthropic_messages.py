"""A message and a streamed one with the anthropic SDK: any model of the gateway, whatever its backend speaks.

ANTHROPIC_BASE_URL (the gateway's address, without /v1) and ANTHROPIC_API_KEY say where and as whom; TALLYGATE_MODEL names a model.
"""

from __future__ import annotations

import os
import sys

from anthropic import Anthropic, APIStatusError

client = Anthropic()
model = os.environ.get("TALLYGATE_MODEL", "echo-1")
try:
    raw = client.messages.with_raw_response.create(
        model=model,
        max_tokens=100,
        messages=[{"role": "user", "content": "hello from the ledger"}],
    )
except APIStatusError as refusal:
    sys.exit(f"refused: {refusal.status_code}: {refusal.message}")
answer = raw.parse()
print(answer.content[0].text)
print(f"tokens: {answer.usage.input_tokens} in, {answer.usage.output_tokens} out")
print(f"request: {raw.headers['request-id']}, cost: {raw.headers.get('x-tallygate-cost-usd')} USD")

with client.messages.stream(
    model=model,
    max_tokens=100,
    messages=[{"role": "user", "content": "one two three four"}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
    print(f"\nended: {stream.get_final_message().stop_reason}")

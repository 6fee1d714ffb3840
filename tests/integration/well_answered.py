"""A call that goes well: what the backend answers, whole and as a stream, and what it costs."""

from __future__ import annotations

import json

from tests.support.scripted_backend import answering

USAGE = {"prompt_tokens": 12, "completion_tokens": 34}
COST_NANO_USD = 228_000
BODY = json.dumps({"choices": [{"message": {"content": "hi"}}], "usage": USAGE}).encode()
CHUNK = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'
END = b'data: {"choices":[],"usage":' + json.dumps(USAGE).encode() + b"}\n\ndata: [DONE]\n\n"
WELL = answering(200, BODY)

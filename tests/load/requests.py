"""The requests a load run sends: a seeded mix of chat completions, prepared as bytes beforehand."""

from __future__ import annotations

import json
import random
from urllib.parse import urlsplit

from tests.load.connection import PreparedRequest

VARIANTS = 64
SEED = 1
MAX_TOKENS = 64


def prepare_mix(url: str, key: str, model: str, stream_share: float) -> tuple[PreparedRequest, ...]:
    """64 different requests in a repeatable order; `stream_share` of them (0 to 1) are streams.

    `url` is what OPENAI_BASE_URL would be.
    """
    streams = round(VARIANTS * stream_share)
    mix = [
        prepare(url, key, model, f"load {number} of the gateway", is_stream=number < streams)
        for number in range(VARIANTS)
    ]
    random.Random(SEED).shuffle(mix)
    return tuple(mix)


def prepare(url: str, key: str, model: str, content: str, *, is_stream: bool) -> PreparedRequest:
    """One chat completion request, complete with its headers."""
    address = urlsplit(url)
    message = {"role": "user", "content": content}
    asked = {"model": model, "messages": [message], "max_tokens": MAX_TOKENS, "stream": is_stream}
    body = json.dumps(asked).encode()
    head = (
        f"POST {address.path}/chat/completions HTTP/1.1\r\n"
        f"Host: {address.netloc}\r\n"
        f"Authorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "\r\n"
    )
    return PreparedRequest(head.encode() + body, is_stream)

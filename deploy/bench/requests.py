"""The requests a load run sends: a seeded mix of chat completions, prepared as bytes beforehand."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from urllib.parse import urlsplit

from deploy.bench.connection import PreparedRequest

VARIANTS = 64
SEED = 1
MAX_TOKENS = 64


def prepare_mix(
    url: str,
    key: str,
    model: str,
    stream_share: float,
    variants: int = VARIANTS,
    max_tokens: int = MAX_TOKENS,
) -> tuple[PreparedRequest, ...]:
    """So many different requests in a repeatable order; `stream_share` of them (0 to 1) are streams.

    `url` is what OPENAI_BASE_URL would be.
    """
    streams = round(variants * stream_share)
    mix = [
        prepare(
            url,
            key,
            model,
            f"load {number} of the gateway",
            is_stream=number < streams,
            max_tokens=max_tokens,
        )
        for number in range(variants)
    ]
    random.Random(SEED).shuffle(mix)  # noqa: S311 - an order, no secret
    return tuple(mix)


def prepare(
    url: str,
    key: str,
    model: str,
    content: str,
    *,
    is_stream: bool,
    max_tokens: int = MAX_TOKENS,
    headers: Mapping[str, str] | None = None,
) -> PreparedRequest:
    """One chat completion request, complete with its headers; `headers` come on top of them."""
    address = urlsplit(url)
    message = {"role": "user", "content": content}
    asked = {"model": model, "messages": [message], "max_tokens": max_tokens, "stream": is_stream}
    body = json.dumps(asked).encode()
    head = (
        f"POST {address.path}/chat/completions HTTP/1.1\r\n"
        f"Host: {address.netloc}\r\n"
        f"Authorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
    )
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return PreparedRequest(f"{head}{more}\r\n".encode() + body, is_stream)

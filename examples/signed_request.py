"""A signed request with nothing but Python's own library, and what becomes of it when it is sent again.

OPENAI_BASE_URL, OPENAI_API_KEY and TALLYGATE_SIGNING_SECRET (of `tallygate keys create --signed`) say where and as whom;
TALLYGATE_MODEL names a model.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

BASE_URL = os.environ["OPENAI_BASE_URL"]
KEY, SECRET = os.environ["OPENAI_API_KEY"], os.environ["TALLYGATE_SIGNING_SECRET"]


def signed(method: str, path: str, body: bytes = b"") -> urllib.request.Request:
    """A request that is taken once, within five minutes; sign again what is to be sent again."""
    url = f"{BASE_URL}{path}?nonce={secrets.token_hex(8)}"  # So that no two are the same.
    parts = urlsplit(url)
    timestamp = str(int(time.time()))
    digest = hashlib.sha256(body).hexdigest()
    text = f"v1:{timestamp}:{method}:{parts.path}?{parts.query}:{digest}"
    signature = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
    headers = {
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
        "X-Tallygate-Timestamp": timestamp,
        "X-Tallygate-Signature": f"v1={signature}",
    }
    return urllib.request.Request(url, body or None, headers, method=method)  # noqa: S310  # the gateway's address


def send(request: urllib.request.Request) -> tuple[int, dict[str, Any]]:
    """Status and body."""
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


model = os.environ.get("TALLYGATE_MODEL", "echo-1")
chat = {"model": model, "messages": [{"role": "user", "content": "signed by hand"}]}
request = signed("POST", "/chat/completions", json.dumps(chat).encode())

status, answer = send(request)
print(f"first: {status} {answer['choices'][0]['message']['content']}")
status, answer = send(request)
print(f"the same again: {status} {answer['error']['code']}")
status, answer = send(signed("GET", "/models"))
print(f"models: {status} {len(answer['data'])}")

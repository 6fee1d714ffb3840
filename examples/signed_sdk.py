"""The openai SDK with a key whose requests have to be signed: `tallygate keys create --signed`.

An ``httpx.Auth`` signs every try anew, those of the SDK's own retries too. Two requests that are the same to the byte in the
same second would have the same signature, and each is taken once; so a random parameter, which means nothing to the
gateway, makes each of them another one. OPENAI_BASE_URL, OPENAI_API_KEY and TALLYGATE_SIGNING_SECRET say where and as
whom; TALLYGATE_MODEL names a model.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Generator

import httpx
from openai import OpenAI


class Signed(httpx.Auth):
    """Signs requests with the secret as it was printed."""

    requires_request_body = True

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """One try."""
        request.url = request.url.copy_set_param("nonce", secrets.token_hex(8))
        body = hashlib.sha256(request.content).hexdigest()
        timestamp, target = int(time.time()), request.url.raw_path.decode()
        text = f"v1:{timestamp}:{request.method}:{target}:{body}"
        digest = hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
        request.headers["X-Tallygate-Timestamp"] = str(timestamp)
        request.headers["X-Tallygate-Signature"] = f"v1={digest}"
        yield request


signed = httpx.Client(auth=Signed(os.environ["TALLYGATE_SIGNING_SECRET"]), timeout=30)
client = OpenAI(http_client=signed)
model = os.environ.get("TALLYGATE_MODEL", "echo-1")
for _ in range(2):  # The same twice in a second.
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "signed by the SDK"}]
    )
    print(answer.choices[0].message.content)
stream = client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": "streamed and signed"}], stream=True
)
print("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))

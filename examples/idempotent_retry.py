"""A request that is sent until it has an answer, and runs once.

The same Idempotency-Key with the same body joins the first request, or gets its answer again; with another body it gets
422. OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom; TALLYGATE_MODEL names a model.
"""

from __future__ import annotations

import os
import sys
import time
import uuid

import httpx

TRIES = 5
BODY = {
    "model": os.environ.get("TALLYGATE_MODEL", "echo-1"),
    "messages": [{"role": "user", "content": "charge me once"}],
}

api = httpx.Client(
    base_url=os.environ["OPENAI_BASE_URL"],
    headers={"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"},
    timeout=30,
)


def ask(key: str, body: dict[str, object]) -> httpx.Response:
    """The answer; what may succeed later is tried again under the same key."""
    for number in range(1, TRIES + 1):
        try:
            answer = api.post("/chat/completions", json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError as lost:
            print(f"try {number}: {lost!r}", file=sys.stderr)
            time.sleep(number)
            continue
        if answer.is_success or answer.headers.get("x-should-retry") == "false":
            return answer
        print(f"try {number}: {answer.status_code}", file=sys.stderr)
        time.sleep(float(answer.headers.get("retry-after", number)))
    sys.exit("no answer")


key = str(uuid.uuid4())
first = ask(key, BODY)
again = ask(key, BODY)
other = ask(key, {**BODY, "messages": [{"role": "user", "content": "something else"}]})

print(f"first: {first.status_code} {first.headers['x-request-id']}")
print(f"again: {again.status_code} {again.headers['x-request-id']}")
print(f"replayed: {again.headers.get('idempotent-replayed', 'false')}")
print(f"same answer: {first.content == again.content}")
print(f"other body: {other.status_code} {other.json()['error']['code']}")

"""A stream that loses its connection and goes on where it broke: nothing twice, nothing missing, one bill.

OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom; TALLYGATE_MODEL names a model. With several ingress processes,
any of them goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import httpx

BREAK_AFTER = 3

api = httpx.Client(
    base_url=os.environ["OPENAI_BASE_URL"],
    headers={
        "Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}",
        # The model goes on while nobody listens, and what it says is kept for a while.
        "x-tallygate-resumable": "1",
    },
    timeout=30,
)
body = {
    "model": os.environ.get("TALLYGATE_MODEL", "echo-1"),
    "messages": [{"role": "user", "content": "one two three four five six"}],
    "stream": True,
}


def events(last_id: str | None) -> Iterator[tuple[str | None, str]]:
    """Id and data of each event behind the last one that we have."""
    headers = {} if last_id is None else {"last-event-id": last_id}
    with api.stream("POST", "/chat/completions", json=body, headers=headers) as answer:
        # 410 would say that it is not kept any more; a request is never run again for it.
        answer.raise_for_status()
        told, data = None, ""
        for line in answer.iter_lines():
            if line.startswith("id: "):
                told = line[4:]
            elif line.startswith("data: "):
                data = line[6:]
            elif not line and data:
                yield told, data
                told, data = None, ""


def text_of(data: str) -> str:
    """What the model says in an event."""
    choices = json.loads(data)["choices"]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


last_id, text, parts = None, "", []
for number, (told, data) in enumerate(events(None), 1):
    last_id, text = told, text + text_of(data)
    if number == BREAK_AFTER:
        break  # as a train in a tunnel would
print(f"before the break: {text}")
for _, data in events(last_id):
    if data != "[DONE]":
        parts.append(text_of(data))
print(f"after it: {''.join(parts)}")
print(f"together: {text + ''.join(parts)}")

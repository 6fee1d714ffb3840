"""A plain HTTP client of the gateway that keeps whole answers, for tests to look at.

It knows the two chat surfaces and nothing of the gateway's code.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp

CONNECTIONS = 100
MODEL = "fake-1"
COST_COMMENT = ": x-tallygate-cost-usd "


@dataclass(frozen=True)
class Reply:
    """One answer: status, headers (case does not matter) and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def json(self) -> Any:
        """The body as JSON; numbers with a point become Decimals."""
        return json.loads(self.body, parse_float=Decimal)

    @property
    def events(self) -> list[str]:
        """The data of the server-sent events."""
        return [
            line.removeprefix("data: ")
            for line in self.body.split("\n")
            if line.startswith("data: ")
        ]

    @property
    def is_stream(self) -> bool:
        return self.headers["content-type"].startswith("text/event-stream")

    @property
    def chunks(self) -> list[Any]:
        """The events as JSON, without the end mark."""
        return [json.loads(event) for event in self.events if event != "[DONE]"]

    @property
    def text(self) -> str:
        """What the model said, on the chat surface."""
        if not self.is_stream:
            return str(self.json["choices"][0]["message"]["content"])
        choices = [choice for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    @property
    def usage(self) -> dict[str, int] | None:
        """What the client was told about tokens, on the chat surface."""
        if not self.is_stream:
            return dict(self.json["usage"])
        told = [chunk["usage"] for chunk in self.chunks if chunk.get("usage")]
        return told[-1] if told else None

    @property
    def cost_usd(self) -> Decimal | None:
        """What the client was told about cost: in a header, or in a stream's last comment."""
        if not self.is_stream:
            told = self.headers.get("x-tallygate-cost-usd")
            return None if told is None else Decimal(told)
        comments = [line for line in self.body.split("\n") if line.startswith(COST_COMMENT)]
        return Decimal(comments[-1].removeprefix(COST_COMMENT)) if comments else None


class GatewayClient:
    """Posts requests; `api_url` is what OPENAI_BASE_URL would be."""

    def __init__(self, session: aiohttp.ClientSession, api_url: str) -> None:
        self._session = session
        self._api_url = api_url

    async def get(self, path: str, key: str | None = None) -> Reply:
        """GET a path below the API's base."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with self._session.get(f"{self._api_url}{path}", headers=headers) as answer:
            return Reply(answer.status, answer.headers, await answer.text())

    async def post(
        self, path: str, key: str, body: object, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """POST JSON to a path below the API's base."""
        authorized = {"Authorization": f"Bearer {key}", **(headers or {})}
        url = f"{self._api_url}{path}"
        async with self._session.post(url, json=body, headers=authorized) as answer:
            return Reply(answer.status, answer.headers, await answer.text())

    async def chat(self, key: str, content: str, **more: Any) -> Reply:
        """One chat completion."""
        messages = [{"role": "user", "content": content}]
        return await self.post(
            "/chat/completions", key, {"model": MODEL, "messages": messages, **more}
        )

    async def infer(self, key: str, payload: str, **more: Any) -> Reply:
        """One request on the native route, under a fresh id of the client's own."""
        body = {"request_id": str(uuid.uuid4()), "model": MODEL, "payload": payload, **more}
        return await self.post("/inference", key, body)


def steer(**behaviour: Any) -> str:
    """A message that tells the fake backend what to do."""
    return json.dumps({"fake": behaviour})

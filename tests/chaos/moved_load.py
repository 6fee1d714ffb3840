"""A steady mix of calls, and what became of them: whole answers, streams, keyed requests sent twice."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.fakes.behaviour import PLAIN_MODEL

_KINDS = ("whole", "stream", "keyed")
_ANSWER_WITHIN_S = 30.0
_OK = 200


@dataclass
class Tally:
    """Answers by kind and status, their times, and how many calls of a backend they stand for."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    calls: int = 0
    at_s: dict[str, list[float]] = field(default_factory=dict)
    """When (monotonic) answers of each status came."""

    def add(self, kind: str, status: str, began_s: float, *, calls: int) -> None:
        """Note one answer."""
        now_s = time.monotonic()
        self.statuses[status if status == "200" else f"{status} ({kind})"] += 1
        self.seconds.append(now_s - began_s)
        self.calls += calls
        self.at_s.setdefault(status, []).append(now_s)

    @property
    def p99_ms(self) -> float:
        """Of all answers."""
        ordered = sorted(self.seconds)
        return 1_000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0.0

    def __str__(self) -> str:
        return ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))


@dataclass
class Load:
    """Calls of one key, so many a second."""

    url: str
    key: str
    per_s: float
    kinds: tuple[str, ...] = _KINDS
    _keys: itertools.count[int] = field(default_factory=itertools.count)

    async def run(self, for_s: float) -> Tally:
        """Send for so long, and wait for every answer."""
        tally, tasks = Tally(), []
        headers = {"authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=_ANSWER_WITHIN_S, trust_env=False
        ) as client:
            end_s = time.monotonic() + for_s
            for kind in itertools.cycle(self.kinds):
                if time.monotonic() >= end_s:
                    break
                tasks.append(asyncio.create_task(self._one(client, kind, tally)))
                await asyncio.sleep(1 / self.per_s)
            await asyncio.gather(*tasks)
        return tally

    async def _one(self, client: httpx.AsyncClient, kind: str, tally: Tally) -> None:
        began_s = time.monotonic()
        try:
            status, calls = await self._answer(client, kind)
        except httpx.HTTPError as error:
            status, calls = type(error).__name__, 0
        tally.add(kind, status, began_s, calls=calls)

    async def _answer(self, client: httpx.AsyncClient, kind: str) -> tuple[str, int]:
        """The status, or what is wrong with the answer, and how many calls it cost."""
        message = {"role": "user", "content": "what time is it"}
        body: dict[str, Any] = {"model": PLAIN_MODEL, "messages": [message], "max_tokens": 32}
        if kind == "stream":
            answer = await client.post("/chat/completions", json=body | {"stream": True})
            is_whole = answer.status_code != _OK or answer.text.rstrip().endswith("data: [DONE]")
            return _status(answer) if is_whole else "broken off", int(answer.status_code == _OK)
        if kind == "whole":
            answer = await client.post("/chat/completions", json=body)
            return _status(answer), int(answer.status_code == _OK)
        key = {"idempotency-key": f"{id(self)}-{next(self._keys)}"}
        first = await client.post("/chat/completions", json=body, headers=key)
        again = await client.post("/chat/completions", json=body, headers=key)
        is_same = first.content == again.content or first.status_code != _OK
        calls = int(_OK in (first.status_code, again.status_code))
        return _status(first) if is_same else "another answer", calls


def _status(answer: httpx.Response) -> str:
    if answer.status_code in (_OK, 402, 429):
        return str(answer.status_code)
    return f"{answer.status_code} {_code_of(answer)}"


def _code_of(answer: httpx.Response) -> str:
    found = re.search(r'"code": ?"(\w+)"', answer.text)
    return found.group(1) if found else ""

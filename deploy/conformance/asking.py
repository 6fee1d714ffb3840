"""Asks a backend the questions of the conformance kit, whatever it sends.

Each question has a connection's bounds: seconds from its first byte sent to its last byte read, and bytes of its answer. All
of them together have one more. No proxy of the environment, no redirect, no cookie, no compression, as in the dispatcher.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx

from deploy.conformance import entry, judging
from deploy.conformance.answers import Answer
from deploy.conformance.judging import Finding
from deploy.conformance.questions import (
    Question,
    about_chat,
    about_limits,
    about_models,
    about_rest,
)
from dispatcher.upstream.target import target

__all__ = ["Bounds", "Report", "check"]

ANSWER_BYTES_MAX: Final = 256 * 1024
_LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True)
class Bounds:
    """How long a check may take."""

    question_s: float = 20.0
    """Each question, first to last byte."""
    all_s: float = 180.0
    """All of them; what is left then is not asked."""
    idle_s: float = 15.0
    """How long an idle connection is watched, beside the questions."""


@dataclass(frozen=True)
class Report:
    """What was found out about a backend."""

    model: str | None
    """The one that was asked for, or the first that the backend lists."""
    listed: tuple[str, ...]
    findings: tuple[Finding, ...]
    used_input_tokens: int
    used_output_tokens: int
    """As the backend counted them; 0 of answers without usage."""


@dataclass
class _Asker:
    """One check under way."""

    client: httpx.AsyncClient
    url: str
    bounds: Bounds
    until_s: float
    step: Callable[[str], None]
    used_input_tokens: int = 0
    used_output_tokens: int = 0

    async def ask(self, question: Question) -> Answer:
        """One answer within the bounds; never raises."""
        self.step(question.name)
        left_s = min(self.bounds.question_s, self.until_s - time.monotonic())
        if left_s <= 0:
            return Answer(ended="unasked", why="not asked: no time was left")
        answer = await self._ask(question, left_s)
        if used := answer.usage:
            self.used_input_tokens += max(0, used.input_tokens)
            self.used_output_tokens += max(0, used.output_tokens)
        return answer

    async def _ask(self, question: Question, within_s: float) -> Answer:
        seen = Answer(ended="late", why=f"no whole answer within {within_s:.0f} s")
        try:
            async with asyncio.timeout(within_s), self._sent(question) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                seen = replace(seen, status=response.status_code, headers=headers)
                async for piece in response.aiter_raw():
                    seen = replace(seen, body=seen.body + piece[:ANSWER_BYTES_MAX])
                    if len(seen.body) > ANSWER_BYTES_MAX:
                        return replace(
                            seen, ended="large", why=f"more than {ANSWER_BYTES_MAX} bytes"
                        )
            return replace(seen, ended="whole", why="")
        except TimeoutError:
            return seen
        except Exception as error:  # noqa: BLE001  # whatever a server sends costs its question, not the check
            return replace(seen, ended="cut", why=f"{type(error).__name__}: {error}")

    def _sent(self, question: Question) -> Any:
        url = str(target(self.url, question.path))
        if question.body is None:
            return self.client.stream("GET", url)
        headers = {"content-type": "application/json"}
        return self.client.stream("POST", url, content=question.body, headers=headers)

    async def findings(self, questions: Sequence[Question]) -> tuple[Finding, ...]:
        """What the answers say, in the order of the questions."""
        found: list[Finding] = []
        for question in questions:
            found += question.judge(await self.ask(question))
        return tuple(found)


async def check(
    url: str,
    *,
    key: str | None = None,
    model: str | None = None,
    context_tokens: int | None = None,
    bounds: Bounds = Bounds(),
    step: Callable[[str], None] = lambda _: None,
) -> Report:
    """Ask everything. ``url`` is what OPENAI_BASE_URL would be; ``step`` hears the name of each question."""
    headers = {"accept-encoding": "identity", "user-agent": "tallygate-check"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    async with httpx.AsyncClient(
        headers=headers,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        timeout=bounds.question_s,
        trust_env=False,
    ) as client:
        asker = _Asker(client, url, bounds, time.monotonic() + bounds.all_s, step)
        watching = asyncio.create_task(_idle_close(headers, url, bounds))
        try:
            listed, found, model = await _ask_all(asker, model, context_tokens)
            found = (*found, await watching)
        finally:
            watching.cancel()
    return Report(model, listed, _once(found), asker.used_input_tokens, asker.used_output_tokens)


async def _ask_all(
    asker: _Asker, model: str | None, context_tokens: int | None
) -> tuple[tuple[str, ...], tuple[Finding, ...], str | None]:
    answer = await asker.ask(about_models())
    listed = judging.model_names(answer)
    found = judging.judge_models(answer)
    model = model or next(iter(listed), None)
    if model is None:
        return (
            listed,
            (*found, Finding("chat", "unknown", "no model is listed; name one with --model")),
            None,
        )
    found += await asker.findings(about_limits(model))
    field = entry.limit_field(found)
    if not _chats(found):
        found += await asker.findings([about_chat(model)])
    if not _chats(found):
        return listed, found, model
    found += await asker.findings(about_rest(model, field, context_tokens))
    return listed, found, model


def _chats(findings: Sequence[Finding]) -> bool:
    """Without a single completion the other questions would only hear the same again."""
    return any(finding.about == "chat" and finding.says == "yes" for finding in findings)


async def _idle_close(headers: dict[str, str], url: str, bounds: Bounds) -> Finding:
    """How long the backend keeps a connection open that nobody uses."""
    about = "closes idle connections"
    try:
        async with httpx.AsyncClient(
            headers=headers, timeout=bounds.question_s, trust_env=False
        ) as client:
            async with (
                asyncio.timeout(bounds.question_s),
                client.stream("GET", str(target(url, "models"))) as response,
            ):
                read = 0
                async for piece in response.aiter_raw():
                    read += len(piece)
                    if read > ANSWER_BYTES_MAX:
                        return Finding(about, "unknown", "its list of models has no end")
            if response.headers.get("connection", "").lower() == "close":
                return Finding(about, "yes", "at once: it says connection: close")
            return await _watched(response.extensions["network_stream"], bounds.idle_s)
    except Exception as error:  # noqa: BLE001  # whatever a server sends costs its question, not the check
        return Finding(about, "unknown", f"{type(error).__name__}: {error}")


async def _watched(connection: Any, idle_s: float) -> Finding:
    about = "closes idle connections"
    began_s = time.monotonic()
    while (waited_s := time.monotonic() - began_s) < idle_s:
        if connection.get_extra_info("is_readable"):
            return Finding(about, "yes", f"after {waited_s:.1f} s")
        await asyncio.sleep(_LOOK_EVERY_S)
    return Finding(about, "no", f"not within {idle_s:.0f} s")


def _once(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """One finding of each kind: the first, unless a later one knows more."""
    kept: dict[str, Finding] = {}
    for finding in findings:
        known = kept.get(finding.about)
        if known is None or (known.says in ("no", "unknown") and finding.says == "yes"):
            kept[finding.about] = finding
    return tuple(kept.values())

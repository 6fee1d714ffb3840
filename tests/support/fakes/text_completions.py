"""What the fake backend answers to a text completion: a pure function of the request.

A word of a prompt is a token, as is each number of a list; a choice says the words of its prompt backwards, as many as
it may. With ``best_of`` what is thrown away is spent as well. The model ``fake-no_usage`` keeps silent about usage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.support.fakes.behaviour import StreamOptions

DEFAULT_MAX_TOKENS = 16

Prompt = str | list[int]
"""A text, or the tokens of one."""


class Request(msgspec.Struct, frozen=True):
    """The fields of a text completion that matter here."""

    model: str
    prompt: str | list[Any]
    suffix: str | None = None
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def prompts(self) -> list[Prompt]:
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt

    @property
    def prompt_tokens(self) -> int:
        return sum(len(words_of(each)) for each in self.prompts) + len((self.suffix or "").split())


_REQUEST = msgspec.json.Decoder(Request)


def parse(body: bytes) -> Request:
    """The request in `body`; `msgspec.DecodeError` when it is none."""
    return _REQUEST.decode(body)


def words_of(prompt: Prompt) -> list[str]:
    """Its tokens."""
    return prompt.split() if isinstance(prompt, str) else [f"t{token}" for token in prompt]


def said(request: Request, prompt: Prompt) -> list[str]:
    """What a choice of the prompt says, without its echo."""
    limit = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    return words_of(prompt)[::-1][:limit]


@dataclass(frozen=True)
class Answer:
    """The answer to one call."""

    request: Request
    call_id: str
    created_s: int

    @property
    def spoken(self) -> list[list[str]]:
        """The words of each choice: all choices of the first prompt, then of the next."""
        each = self.request.n or 1
        return [said(self.request, prompt) for prompt in self.request.prompts for _ in range(each)]

    @property
    def text(self) -> str:
        return " ".join(word for words in self.spoken for word in words)

    @property
    def completion_tokens(self) -> int:
        candidates = max(self.request.n or 1, self.request.best_of or 1)
        return sum(len(said(self.request, prompt)) * candidates for prompt in self.request.prompts)

    def whole(self) -> dict[str, Any]:
        choices = [
            self._choice(index, " ".join([*self._echoed(index), *words]), words, "stop")
            for index, words in enumerate(self.spoken)
        ]
        usage = {} if self._is_silent else {"usage": self._usage()}
        return {**self._head(), "choices": choices, **usage}

    def chunks(self) -> Iterator[dict[str, Any]]:
        options = self.request.stream_options
        with_usage = options is not None and options.include_usage and not self._is_silent
        extra = {"usage": None} if with_usage else {}
        for index, words in enumerate(self.spoken):
            pieces = [*self._echoed(index), *words]
            for at, word in enumerate(pieces):
                text = f" {word}" if at else word
                choice = self._choice(index, text, [word], None)
                yield {**self._head(), "choices": [choice], **extra}
            yield {**self._head(), "choices": [self._choice(index, "", [], "stop")], **extra}
        if with_usage:
            yield {**self._head(), "choices": [], "usage": self._usage()}

    @property
    def _is_silent(self) -> bool:
        return self.request.model == "fake-no_usage"

    def _head(self) -> dict[str, Any]:
        known = {"id": self.call_id, "object": "text_completion", "created": self.created_s}
        return {**known, "model": self.request.model}

    def _echoed(self, index: int) -> list[str]:
        prompt = self.request.prompts[index // (self.request.n or 1)]
        return words_of(prompt) if self.request.echo else []

    def _choice(
        self, index: int, text: str, words: list[str], finish_reason: str | None
    ) -> dict[str, Any]:
        logprobs = None
        if self.request.logprobs is not None:
            logprobs = {
                "tokens": words,
                "token_logprobs": [-0.5 for _ in words],
                "top_logprobs": [{word: -0.5} for word in words],
                "text_offset": list(range(len(words))),
            }
        ending = {"finish_reason": finish_reason, "logprobs": logprobs}
        return {"index": index, "text": text, **ending}

    def _usage(self) -> dict[str, int]:
        given, made = self.request.prompt_tokens, self.completion_tokens
        return {
            "prompt_tokens": given,
            "completion_tokens": made,
            "total_tokens": given + made,
        }

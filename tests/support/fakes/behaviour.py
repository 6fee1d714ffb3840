"""What the fake backend does with a call: a pure function of the request.

Invariant: equal requests get equal answers, and unless told `ignore_max_tokens` an answer never has
more tokens than the caller allowed. One word of the answer is one token.
"""

from __future__ import annotations

import zlib
from itertools import cycle, islice
from typing import Literal, get_args

import msgspec

Mode = Literal[
    "echo",
    "hang",
    "reset",
    "500",
    "429",
    "529",
    "early_error",
    "late_error",
    "odd_events",
    "no_usage",
    "slow",
    "bad_usage",
    "garbled_usage",
    "ignore_max_tokens",
]
PLAIN_MODEL = "fake-1"
OF_ANTHROPIC = frozenset({"529", "early_error", "late_error", "odd_events"})
"""Modes that only a backend of Anthropic's protocol knows."""
MODELS = (PLAIN_MODEL, *(f"fake-{mode}" for mode in get_args(Mode) if mode not in OF_ANTHROPIC))
SLOW_STEP_MS = 200
DEFAULT_CHUNKS = 8
MOST_ECHOED_TOKENS = 32
DEFAULT_MAX_TOKENS = 4_096
OVERRUN_TOKENS = 50


class Kinds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many of the tokens were read from a cache, written to one, and spent on reasoning."""

    cached: int = 0
    written: int = 0
    reasoning: int = 0

    @property
    def details(self) -> dict[str, object]:
        """As OpenAI tells them."""
        read_and_written = {"cached_tokens": self.cached, "cache_write_tokens": self.written}
        return {
            "prompt_tokens_details": read_and_written,
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool that the answer ends with."""

    name: str
    arguments: str = "{}"
    """JSON, in the end that of an object."""


class Steering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller may ask for: `{"fake": {...}}` as the content of the last message."""

    mode: Mode | None = None
    only: str | None = None
    """The backend for which the mode is meant; all others behave well."""
    chunks: int | None = None
    delay_ms: int = 0
    """Pause before each chunk, or before a JSON answer."""
    output_tokens: int | None = None
    kinds: Kinds | None = None
    """What it says of its tokens besides; nothing when not given."""
    call: Call | None = None
    """What it calls behind its text; the result of a tool may ask for the next one."""


class Part(msgspec.Struct, frozen=True):
    """A part of a message's content."""

    text: str = ""


class Message(msgspec.Struct, frozen=True):
    """A chat message."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(msgspec.Struct, frozen=True):
    """Options of a stream."""

    include_usage: bool = False


class ChatRequest(msgspec.Struct, frozen=True):
    """The fields of a chat completion request that matter here."""

    model: str
    messages: list[Message]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int = 1


class Plan(msgspec.Struct, frozen=True):
    """The answer: its words, its true cost, what is reported, and how it is delivered."""

    mode: Mode
    words: tuple[str, ...]
    choices: int
    prompt_tokens: int
    chunks: int
    delay_ms: int
    finish_reason: str
    kinds: Kinds | None = None
    call: Call | None = None

    @property
    def completion_tokens(self) -> int:
        return len(self.words) * self.choices

    @property
    def reported_usage(self) -> dict[str, object] | None:
        """What the caller is told; None when the backend keeps silent."""
        if self.mode == "no_usage":
            return None
        if self.mode == "bad_usage":
            return {"prompt_tokens": 10**15, "completion_tokens": -1, "total_tokens": 0}
        if self.mode == "garbled_usage":
            return {"prompt_tokens": "many", "completion_tokens": [], "total_tokens": None}
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            **({} if self.kinds is None else self.kinds.details),
        }

    def chunk_words(self, chunk: int) -> tuple[str, ...]:
        """The words of one chunk (from 0); they are spread evenly over all chunks."""
        words = len(self.words)
        return self.words[chunk * words // self.chunks : (chunk + 1) * words // self.chunks]


class _Steered(msgspec.Struct, frozen=True):
    fake: Steering


_STEERED = msgspec.json.Decoder(_Steered)
_REQUEST = msgspec.json.Decoder(ChatRequest)


def parse(body: bytes) -> ChatRequest:
    """The request in `body`; `msgspec.DecodeError` when it is none."""
    return _REQUEST.decode(body)


def plan(request: ChatRequest, backend: str = "") -> Plan:
    """Decide the answer of the backend of that name. `msgspec.DecodeError` when the steering is misspelt."""
    content = request.messages[-1].text if request.messages else ""
    is_steered = content.startswith('{"fake"')
    steering = _STEERED.decode(content).fake if is_steered else Steering()
    is_meant = steering.only in (None, backend)
    mode = (steering.mode if is_meant else None) or _mode_of(request.model)
    allowed = request.max_completion_tokens or request.max_tokens or DEFAULT_MAX_TOKENS
    wanted = _wanted_tokens(content, steering)
    if mode == "ignore_max_tokens":
        tokens = max(wanted, allowed + OVERRUN_TOKENS)
    else:
        tokens = min(wanted, allowed)
    vocabulary = ("word",) if is_steered else content.split() or ("word",)
    return Plan(
        mode=mode,
        words=tuple(islice(cycle(vocabulary), tokens)),
        choices=request.n,
        prompt_tokens=sum(1 + len(message.text.split()) for message in request.messages),
        chunks=steering.chunks or max(1, min(tokens, DEFAULT_CHUNKS)),
        delay_ms=steering.delay_ms or (SLOW_STEP_MS if mode == "slow" else 0),
        finish_reason=_finish_reason(steering, is_whole=tokens >= wanted),
        kinds=steering.kinds,
        call=steering.call,
    )


def _finish_reason(steering: Steering, *, is_whole: bool) -> str:
    if not is_whole:
        return "length"
    return "stop" if steering.call is None else "tool_calls"


def _wanted_tokens(content: str, steering: Steering) -> int:
    if steering.output_tokens is not None:
        return steering.output_tokens
    # A checksum makes the count vary between requests, and repeat for equal ones.
    return steering.chunks or 1 + zlib.crc32(content.encode()) % MOST_ECHOED_TOKENS


def _mode_of(model: str) -> Mode:
    mode = model.removeprefix("fake-")
    return next((known for known in get_args(Mode) if known == mode), "echo")

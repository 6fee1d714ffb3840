"""What a driver is told and what it brings back; both cross to a process of its own as JSON. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

from deploy.bench import arrivals
from deploy.bench.connection import PreparedRequest
from deploy.bench.drivers import MOST_CONNECTIONS, REQUEST_TIMEOUT_S
from deploy.bench.process_cost import Cost
from deploy.bench.report import Sample
from deploy.bench.requests import MAX_TOKENS, prepare, prepare_mix

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a driver. What leaves within `warm_up_s` is sent and not counted."""

    url: str
    """What OPENAI_BASE_URL would be."""
    keys: list[str]
    """API keys, in turn."""
    model: str
    loop: Literal["closed", "open"] = "open"
    seconds: float = 10.0
    """How long is sent, warm-up included."""
    warm_up_s: float = 0.0
    connections: int = 64
    """Of a closed loop."""
    most_requests: int | None = None
    """A closed loop ends after so many."""
    rate_per_s: float = 50.0
    """Of an open loop."""
    arrivals: str = arrivals.CONSTANT
    seed: int = 1
    stream_share: float = 0.0
    """0 to 1."""
    max_tokens: int = MAX_TOKENS
    """Bound of an answer; the bench's own backend streams exactly so many."""
    prompt_chars: int = 0
    """Characters of a prompt that cannot be compressed; 0 for a short sentence."""
    headers: dict[str, str] = {}
    timeout_s: float = REQUEST_TIMEOUT_S
    most_connections: int = MOST_CONNECTIONS
    has_headers: bool = False
    """Whether ids and retry hints of answers are read, which costs the driver time."""
    start_at_s: float | None = None
    """Monotonic time to begin at; at once if not given."""
    pids: dict[str, int] = {}
    """Processes whose cost is read at the end of the warm-up and at the end."""


class Driven(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a load, the warm-up left out."""

    samples: list[Sample]
    send_delays_s: list[float]
    duration_s: float
    costs: dict[str, Cost]
    reference_cpu_ms: float
    began_ms: int
    """When the warm-up ended, Unix milliseconds."""


def requests_of(load: Load) -> tuple[PreparedRequest, ...]:
    """The requests of a load, in the order in which they are sent."""
    if len(load.keys) == 1 and not load.prompt_chars and not load.headers:
        return prepare_mix(
            load.url, load.keys[0], load.model, load.stream_share, max_tokens=load.max_tokens
        )
    content = prompt(load.prompt_chars, load.seed)
    return tuple(
        prepare(
            load.url,
            key,
            load.model,
            f"{number} {content}",
            is_stream=_is_stream(number, load.stream_share),
            max_tokens=load.max_tokens,
            headers=load.headers,
        )
        for number, key in enumerate(load.keys)
    )


def prompt(chars: int, seed: int) -> str:
    """Words of random letters, so that no compression makes a log look small."""
    if not chars:
        return "load of the gateway"
    rng = random.Random(seed)  # noqa: S311 - a load, no secret
    letters = "".join(rng.choices(_LETTERS, k=chars))
    return " ".join(letters[at : at + 7] for at in range(0, chars, 8))


def after_warm_up(samples: Sequence[Sample], warm_up_s: float) -> list[Sample]:
    """Those that were planned after the warm-up."""
    return [sample for sample in samples if sample.planned_s >= warm_up_s]


def longest_s(load: Load) -> float:
    """How long a driver may take before it is ended."""
    return load.seconds + load.warm_up_s + load.timeout_s + _SLACK_S


_SLACK_S = 30.0


def _is_stream(number: int, share: float) -> bool:
    """Streams spread evenly over the numbers."""
    return int((number + 1) * share) > int(number * share)

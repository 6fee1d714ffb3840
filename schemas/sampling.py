"""Decides which requests are traced, once, where they arrive; everybody behind follows the log. Pure.

The dice are the random bits of the id that the gateway itself gave the request: a client chooses the id of its
trace, and would choose one that wins. A client's own wish counts, but only so often a second and process, so that
nobody can have everything recorded: beyond that a request is one like any other.
Source: OpenTelemetry's samplers, ``OTEL_TRACES_SAMPLER``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from schemas.trace_context import RANDOM_BITS, TraceContext

__all__ = ["SAMPLERS", "Sampler", "SamplerName", "sampler_of"]

SamplerName: TypeAlias = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]
SAMPLERS: Final[tuple[SamplerName, ...]] = get_args(SamplerName)
_PARENT_BASED: Final = "parentbased_"
_RANDOM_MAX: Final = 1 << RANDOM_BITS


@dataclass(slots=True)
class Sampler:
    """The decisions of one process."""

    ratio: float
    """The share of requests that is traced, from 0 to 1."""
    follows: bool
    """Whether what a client's ``traceparent`` says counts."""
    followed_per_s: float
    """How many requests a second are traced because their clients ask, beyond that share."""
    _allowed: float = 0.0
    _since_s: float | None = None

    def wants(self, parent: TraceContext | None, request_id: str, now_s: float) -> bool:
        """Whether to trace a request that arrives at monotonic ``now_s`` and has that id."""
        if self.follows and parent is not None:
            if not parent.is_sampled:
                return False
            if self._may_follow(now_s):
                return True
        return _random_of(request_id) < self.ratio * _RANDOM_MAX

    def _may_follow(self, now_s: float) -> bool:
        """Whether one more is followed now: a bucket that holds a second's worth."""
        most = max(1.0, self.followed_per_s)
        if self._since_s is None:
            self._allowed = most
        else:
            more = (now_s - self._since_s) * self.followed_per_s
            self._allowed = min(most, self._allowed + more)
        self._since_s = now_s
        if self._allowed < 1 or self.followed_per_s == 0:
            return False
        self._allowed -= 1
        return True


def sampler_of(name: SamplerName, ratio: float, followed_per_s: float) -> Sampler:
    """The sampler of that name; ``ratio`` is that of the two which take one."""
    follows, kind = name.startswith(_PARENT_BASED), name.removeprefix(_PARENT_BASED)
    shares = {"always_on": 1.0, "always_off": 0.0}
    return Sampler(shares.get(kind, ratio), follows, followed_per_s)


def _random_of(request_id: str) -> int:
    """The last ``RANDOM_BITS`` of a UUIDv7: fourteen digits, between which a hyphen stands."""
    return int(request_id[-15:-13] + request_id[-12:], 16)

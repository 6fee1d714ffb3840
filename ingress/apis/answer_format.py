"""How an outcome reads: the body of a success, the events of a stream, the headers of either. Pure.

Backends speak chat completions and the like; the OpenAI surface relays them verbatim, others translate. Headers
tell rate limits, cost and backend, from what the workers replied. Sources: OpenAI's ``x-ratelimit-*`` headers;
draft-ietf-httpapi-ratelimit-headers (a draft, therefore beside them, and only for requests: it has no unit for
tokens).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypedDict

import msgspec

from ingress.http.refusals import Headers, Refusal, anthropic_body, error_object
from schemas.errors import ErrorCode
from schemas.events import Denial, RateStatus, Said
from schemas.frames import Terminal, Usage
from schemas.money import usd
from schemas.operations import Surface

_PING: Final = b": ping\n"
_PING_EVENT: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
DONE: Final = b"data: [DONE]\n\n"
_MS_PER_S: Final = 1_000
_REQUESTS: Final = "requests_per_s"
_TOKENS: Final = "tokens_per_min"


class AnswerFormat(Protocol):
    """The form of one answer."""

    def body(self, terminal: Terminal) -> bytes | Refusal:
        """The body of a success."""

    def events(self, chunks: bytes) -> bytes:
        """What becomes of whole server-sent events."""

    def last_events(self, terminal: Terminal) -> bytes:
        """The end of a successful stream."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """The backend's own answer, verbatim."""

    def body(self, terminal: Terminal) -> bytes | Refusal:
        """The backend's body."""
        return terminal.body

    def events(self, chunks: bytes) -> bytes:
        """The backend's events."""
        return chunks

    def last_events(self, terminal: Terminal) -> bytes:
        """The cost as a comment, and the end mark."""
        return cost_comment(terminal.usage) + DONE


RELAYED: Final = Relayed()


def ping(surface: Surface) -> bytes:
    """What keeps a silent connection open: a comment, or the event that Anthropic's clients know.

    A comment is the first line of the event that follows: alone before a blank line, the openai SDK takes it for an
    empty event once it has seen an id.
    """
    return _PING_EVENT if surface == "anthropic" else _PING


def error_event(refusal: Refusal, surface: Surface, request_id: str) -> bytes:
    """The event that ends a stream whose headers are out; no end mark follows it."""
    if surface == "anthropic":
        return b"event: error\ndata: %b\n\n" % anthropic_body(refusal, request_id)
    return data_event({"error": error_object(refusal)})


def data_event(fields: Mapping[str, Any]) -> bytes:
    """A server-sent event of one JSON object."""
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"


class UsageSummary(TypedDict):
    """Tokens of a request, under OpenAI's names."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


def usage_object(usage: Usage | None) -> UsageSummary | None:
    """Tokens under OpenAI's names."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


_CODES: Final = {code.value: code for code in ErrorCode}


def refusal_of(terminal: Terminal) -> Refusal | None:
    """What went wrong; ``None`` for a success."""
    if terminal.error_code is None:
        return None
    code = _known_code(terminal.error_code)
    return Refusal(
        code,
        terminal.error_message or "The request could not be completed.",
        status_override=terminal.http_status,
        denial=terminal.denial,
        retry_after_ms=terminal.retry_after_ms,
        said=terminal.said or Said(),
    )


def _known_code(code: str) -> ErrorCode:
    """A worker of a newer version may know codes that are unknown here."""
    return _CODES.get(code, ErrorCode.INTERNAL_ERROR)


def limit_headers(refusal: Refusal) -> Headers:
    """The rate headers of a refusal that a rate caused."""
    return rate_headers(rates_shown((), refusal.denial))


def terminal_headers(terminal: Terminal) -> Headers:
    """Headers that a finished request's answer carries besides those of its status."""
    headers = rate_headers(rates_shown(terminal.rates, terminal.denial))
    if terminal.backend is not None:
        headers.append((b"x-tallygate-backend", terminal.backend.encode()))
    cost = cost_usd(terminal.usage)
    if cost is not None:
        headers.append((b"x-tallygate-cost-usd", cost.encode()))
    return headers


def cost_comment(usage: Usage | None) -> bytes:
    """The cost, as a comment before the last event of a stream, which clients skip; empty where there is no price."""
    cost = cost_usd(usage)
    return b"" if cost is None else b": x-tallygate-cost-usd %s\n" % cost.encode()


def cost_usd(usage: Usage | None) -> str | None:
    """The cost in USD; ``None`` where there is no price."""
    if usage is None or usage.cost_nano_usd is None:
        return None
    return usd(usage.cost_nano_usd)


def rates_shown(
    rates: tuple[RateStatus, ...], denial: Denial | None = None
) -> tuple[RateStatus, ...]:
    """The buckets a worker reported, or the one that refused."""
    if denial is not None and denial.limit_id.endswith((_REQUESTS, _TOKENS)):
        empty = RateStatus(
            id=denial.limit_id, limit=denial.limit, remaining=0, reset_ms=denial.retry_after_ms or 0
        )
        return (empty,)
    return rates


def rate_headers(rates: tuple[RateStatus, ...]) -> Headers:
    """The six ``x-ratelimit-*`` headers and ``RateLimit``; of several limits, the tightest."""
    headers: Headers = []
    for suffix, unit in ((_REQUESTS, b"requests"), (_TOKENS, b"tokens")):
        tightest = min(
            (rate for rate in rates if rate.id.endswith(suffix)),
            key=lambda rate: rate.remaining,
            default=None,
        )
        if tightest is None:
            continue
        reset = go_duration(tightest.reset_ms).encode()
        headers.append((b"x-ratelimit-limit-" + unit, b"%d" % tightest.limit))
        headers.append((b"x-ratelimit-remaining-" + unit, b"%d" % tightest.remaining))
        headers.append((b"x-ratelimit-reset-" + unit, reset))
        if suffix == _REQUESTS:
            seconds = -(-tightest.reset_ms // _MS_PER_S)
            headers.append((b"ratelimit-policy", b'"requests";q=%d' % tightest.limit))
            headers.append((b"ratelimit", b'"requests";r=%d;t=%d' % (tightest.remaining, seconds)))
    return headers


def go_duration(duration_ms: int) -> str:
    """The duration as Go writes it: ``120ms``, ``1.5s``, ``6m0s``, ``1h0m0s``."""
    if duration_ms < _MS_PER_S:
        return f"{duration_ms}ms" if duration_ms > 0 else "0s"
    minutes, rest_ms = divmod(duration_ms, 60_000)
    whole_s, thousandths = divmod(rest_ms, _MS_PER_S)
    fraction = f".{thousandths:03d}".rstrip("0") if thousandths else ""
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{whole_s}{fraction}s"
    return f"{minutes}m{whole_s}{fraction}s" if minutes else f"{whole_s}{fraction}s"

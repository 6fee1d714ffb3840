"""Reckons what an attempt amounts to: how it ended, what it used, and what that costs."""

from __future__ import annotations

from dispatcher.amounts import NOTHING, as_asked, tool_calls, used
from dispatcher.attempts.attempt_end import AttemptEnd
from dispatcher.attempts.excess import Judged
from dispatcher.work import AdmittedRequest, Choice
from schemas.events import Attempt
from schemas.pricing.tiers import serving

__all__ = ["UNUSED", "attempt_of"]

UNUSED = Judged(NOTHING)
"""Of a backend that cannot have worked."""


def attempt_of(
    job: AdmittedRequest,
    choice: Choice,
    number: int,
    end: AttemptEnd,
    judged: Judged,
    started_at_ms: int,
    first_token_at_ms: int | None,
    now_ms: int,
) -> Attempt:
    """The attempt as booked, marked where it is an estimate; nothing when the backend cannot have worked."""
    price, reach = job.admitted.price, job.request.reach
    read, tier, tokens, told = end.answer, None, judged.booked, judged.told
    if read is not None:
        tokens = as_asked(tokens, reach)
        tier = serving(read.service_tier, reach.service_tier if reach else None)
    return Attempt(
        attempt=number,
        backend=choice.backend_id,
        status=end.status,
        started_at_ms=started_at_ms,
        first_token_at_ms=first_token_at_ms,
        finished_at_ms=now_ms,
        upstream_status=end.upstream_status,
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        cached_tokens=tokens.cached_tokens,
        reasoning_tokens=tokens.reasoning_tokens,
        estimated=read is not None and read.usage is None,
        price_version=price.version if price else None,
        cost_nano_usd=used(price, tokens, tier, choice.backend_id),
        provider_id=read.provider_id if read else None,
        cache_write_tokens=tokens.cache_write_tokens,
        cache_write_1h_tokens=tokens.cache_write_1h_tokens,
        audio_input_tokens=tokens.audio_input_tokens,
        image_input_tokens=tokens.image_input_tokens,
        audio_output_tokens=tokens.audio_output_tokens,
        image_output_tokens=tokens.image_output_tokens,
        tool_calls=tokens.tool_calls,
        tool_kinds=tool_calls(tokens),
        service_tier=tier,
        told_input_tokens=told.input_tokens if told else None,
        told_output_tokens=told.output_tokens if told else None,
    )

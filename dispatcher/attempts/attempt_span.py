"""The span of one attempt: a call of a backend, in the words of OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

from typing import Final

from dispatcher.attempts.attempt_end import AttemptResult
from dispatcher.attempts.attempt_texts import input_messages, output_messages
from dispatcher.upstream.target import Uncallable, place
from dispatcher.work import AdmittedRequest, Choice
from schemas import span_names as names
from schemas.gen_ai import OPERATION_NAMES, PROVIDER
from schemas.runtime.process.tracing import Kind, Span, Tracer, Value

__all__ = ["attempt_ended", "attempting"]

_SUCCEEDED: Final = "succeeded"


def attempting(tracer: Tracer, job: AdmittedRequest, choice: Choice, number: int) -> Span | None:
    """Begin the span of an attempt; ``None`` where its request is not traced."""
    request = job.request
    if (parent := tracer.of(request.request_id)) is None:
        return None
    model = choice.upstream_model or request.model
    operation = OPERATION_NAMES[request.route]
    attributes: dict[str, Value] = {
        names.GEN_AI_OPERATION: operation,
        names.GEN_AI_PROVIDER: PROVIDER,
        names.GEN_AI_REQUEST_MODEL: model,
        names.REQUEST_ID: request.request_id,
        names.ORG: request.org,
        names.BACKEND: choice.backend_id,
        names.ATTEMPT: number,
        **_server(choice),
    }
    if tracer.with_content and (said := input_messages(request.payload)) is not None:
        attributes[names.GEN_AI_INPUT_MESSAGES] = said
    return tracer.below(parent, f"{operation} {model}", Kind.CLIENT, attributes)


def attempt_ended(span: Span, result: AttemptResult, *, with_content: bool) -> None:
    """End it: what came back, and what it used."""
    attempt, told = result.attempt, span.attributes
    told[names.ATTEMPT_STATUS] = attempt.status
    told[names.GEN_AI_INPUT_TOKENS] = attempt.input_tokens
    told[names.GEN_AI_OUTPUT_TOKENS] = attempt.output_tokens
    told[names.GEN_AI_CACHED_TOKENS] = attempt.cached_tokens
    told[names.ESTIMATED] = attempt.estimated
    known: dict[str, Value | None] = {
        names.HTTP_STATUS: attempt.upstream_status,
        names.GEN_AI_RESPONSE_ID: attempt.provider_id,
        names.COST_NANO_USD: attempt.cost_nano_usd,
        names.FIRST_CONTENT_MS: None
        if attempt.first_token_at_ms is None
        else attempt.first_token_at_ms - attempt.started_at_ms,
        names.GEN_AI_OUTPUT_MESSAGES: output_messages(result.ending.body) if with_content else None,
    }
    told.update((name, value) for name, value in known.items() if value is not None)
    is_well = attempt.status == _SUCCEEDED
    span.end(None if is_well else result.ending.code or attempt.status)


def _server(choice: Choice) -> dict[str, Value]:
    """Where the backend stands; nothing of one that cannot be called."""
    try:
        origin = place(choice.backend.url, "").origin
    except Uncallable:
        return {}
    return {names.SERVER_ADDRESS: origin.host, names.SERVER_PORT: origin.port}

"""Says where the time of a request went that ran here, from the times of its own events."""

from __future__ import annotations

from dispatcher.attempts.history import AttemptHistory
from dispatcher.work import AdmittedRequest
from schemas.events import Attempt
from schemas.gen_ai import OPERATION_NAMES, SERVER
from schemas.runtime.process.telemetry import Metrics

_MS_PER_S = 1_000


def tell_times(
    metrics: Metrics, job: AdmittedRequest, history: AttemptHistory, claimed_after_ms: int
) -> None:
    """Observe the wait before the first call, the claim, and the tokens of a stream."""
    if not history.attempts or history.has_lost_first:
        return  # What it was before it came here, nobody here has seen.
    request, first, last = job.request, history.attempts[0], history.attempts[-1]
    waited_ms = first.started_at_ms - request.accepted_at_ms - claimed_after_ms
    metrics.observe("tallygate_stage_duration_seconds", max(0, waited_ms) / _MS_PER_S, "queue")
    metrics.observe("tallygate_stage_duration_seconds", claimed_after_ms / _MS_PER_S, "ledger")
    if last.first_token_at_ms is not None:
        labels = OPERATION_NAMES[request.route], SERVER, request.model
        waited_s = (last.first_token_at_ms - request.accepted_at_ms) / _MS_PER_S
        metrics.observe(
            "gen_ai_server_time_to_first_token_seconds",
            max(0.0, waited_s),
            *labels,
            request_id=request.request_id,
        )
        if (token_s := _token_s(last, last.first_token_at_ms)) is not None:
            metrics.observe("gen_ai_server_time_per_output_token_seconds", token_s, *labels)


def _token_s(attempt: Attempt, first_token_at_ms: int) -> float | None:
    """Seconds for each token after the first; ``None`` where there is none."""
    more = attempt.output_tokens - 1
    if more < 1 or attempt.status != "succeeded":
        return None
    return max(0, attempt.finished_at_ms - first_token_at_ms) / more / _MS_PER_S

"""Where the time of a request went that ran here."""

from __future__ import annotations

import msgspec

from dispatcher.attempts.history import AttemptHistory
from dispatcher.settlement.timing import tell_times
from dispatcher.work import AdmittedRequest
from schemas.events import Attempt, RecordRef
from schemas.runtime.process.telemetry import Metrics
from tests.support.events import accepted, admitted, attempt
from tests.support.samples import sample

_MODEL = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "tallygate",
    "gen_ai_request_model": "echo",
}
_FIRST = "gen_ai_server_time_to_first_token_seconds"
_EACH = "gen_ai_server_time_per_output_token_seconds"


def _told(*attempts: Attempt, has_lost_first: bool = False) -> Metrics:
    """Of a request that was accepted at 1 s and whose claim took 50 ms."""
    request = accepted(model="echo", accepted_at_ms=1_000)
    job = AdmittedRequest(admitted(request), request, RecordRef(topic="t", partition=0, offset=0))
    metrics = Metrics()
    tell_times(metrics, job, AttemptHistory([*attempts], has_lost_first=has_lost_first), 50)
    return metrics


def _sum(metrics: Metrics, stage: str) -> float:
    return sample(metrics, "tallygate_stage_duration_seconds_sum", stage=stage)


def _ran(**more: object) -> Attempt:
    times = {"started_at_ms": 1_250, "finished_at_ms": 3_000, "first_token_at_ms": None}
    return msgspec.structs.replace(attempt(), **(times | {"status": "succeeded"} | more))


def test_the_wait_before_the_first_call_is_the_queue_without_the_claim() -> None:
    """However many calls followed."""
    metrics = _told(_ran(), _ran(started_at_ms=2_500))

    assert (_sum(metrics, "queue"), _sum(metrics, "ledger")) == (0.2, 0.05)


def test_a_stream_has_a_first_token_and_others() -> None:
    """The first since the request was accepted; the others each for itself."""
    metrics = _told(_ran(first_token_at_ms=2_000, output_tokens=11))

    assert sample(metrics, f"{_FIRST}_sum", **_MODEL) == 1.0
    assert sample(metrics, f"{_EACH}_sum", **_MODEL) == 0.1


def test_one_token_has_no_others() -> None:
    """Nor has a stream that broke off: what it was counted at is a guess."""
    alone = _told(_ran(first_token_at_ms=2_000, output_tokens=1))
    broken = _told(_ran(first_token_at_ms=2_000, output_tokens=9, status="interrupted"))

    for metrics in (alone, broken):
        assert sample(metrics, f"{_FIRST}_count", **_MODEL) == 1
        assert sample(metrics, f"{_EACH}_count", **_MODEL) == 0


def test_what_ran_elsewhere_before_or_not_at_all_is_not_told() -> None:
    """Nobody here has seen it."""
    assert _sum(_told(), "queue") == 0
    assert sample(_told(), "tallygate_stage_duration_seconds_count", stage="queue") == 0
    lost = _told(_ran(), has_lost_first=True)
    assert sample(lost, "tallygate_stage_duration_seconds_count", stage="queue") == 0


def test_a_clock_that_is_ahead_makes_no_negative_time() -> None:
    metrics = _told(_ran(started_at_ms=900))

    assert _sum(metrics, "queue") == 0

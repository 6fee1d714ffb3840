"""What usage lines add to the counters."""

from __future__ import annotations

from typing import Any

from accounting.usage_counts import count_usage
from schemas.events import RecordRef, UsageRecorded
from schemas.runtime.process.telemetry import Metrics
from tests.support.samples import sample, samples

_LABELS = {
    "gen_ai_operation_name": "embeddings",
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "m",
}
_USAGE = "gen_ai_client_inference_usage"


def _line(**more: Any) -> UsageRecorded:
    fields: dict[str, Any] = {
        "usage_id": "r:1:0",
        "request_id": "r",
        "org": "acme",
        "key_id": "key_a",
        "attempt": 1,
        "revision": 0,
        "route": "embeddings",
        "model": "m",
        "backend": "b",
        "status": "succeeded",
        "started_at_ms": 1,
        "finished_at_ms": 2,
        "input_tokens": 0,
        "output_tokens": 0,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "estimated": False,
        "outcome": RecordRef(topic="t", partition=0, offset=0),
    }
    return UsageRecorded(**(fields | more))


def test_tokens_are_counted_by_kind_and_model() -> None:
    """Both lengths of a cache write are one kind of the conventions."""
    metrics = Metrics()
    line = _line(
        input_tokens=10,
        output_tokens=7,
        cached_tokens=4,
        reasoning_tokens=3,
        cache_write_tokens=2,
        cache_write_1h_tokens=1,
        cost_nano_usd=1_500_000_000,
    )
    count_usage(metrics, line)
    count_usage(metrics, line)

    found = {
        kind: sample(metrics, f"{_USAGE}_{kind}_tokens_total", **_LABELS)
        for kind in ("input", "output", "cache_read_input", "cache_write_input", "reasoning_output")
    }
    assert found == {
        "input": 20,
        "output": 14,
        "cache_read_input": 8,
        "cache_write_input": 6,
        "reasoning_output": 6,
    }
    assert sample(metrics, "tallygate_cost_usd_total", model="m") == 3.0


def test_a_correction_that_takes_back_lowers_no_counter() -> None:
    """A counter only grows; the exact sum is in the ledger."""
    metrics = Metrics()
    count_usage(metrics, _line(input_tokens=-5, cached_tokens=-5, cost_nano_usd=-7, revision=1))

    assert sample(metrics, f"{_USAGE}_input_tokens_total", **_LABELS) == 0
    names = {
        name for name, _ in samples(metrics.page().decode()) if "cost" in name or "cache" in name
    }
    assert names == set()


def test_an_operation_of_a_newer_version_keeps_its_name() -> None:
    metrics = Metrics()
    count_usage(metrics, _line(route="of.tomorrow", input_tokens=1))

    labels = {**_LABELS, "gen_ai_operation_name": "of.tomorrow"}
    assert sample(metrics, f"{_USAGE}_input_tokens_total", **labels) == 1

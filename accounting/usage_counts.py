"""Counts what usage lines say, under the names of OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

from schemas.events import UsageRecorded
from schemas.gen_ai import OPERATION_NAMES, PROVIDER
from schemas.money import NANO_PER_USD
from schemas.runtime.process.telemetry import Metrics


def count_usage(metrics: Metrics, line: UsageRecorded) -> None:
    """Count the tokens and the cost of one line that was booked; a correction that takes some back counts nothing."""
    # A line of a newer version may name an operation that is unknown here.
    labels = OPERATION_NAMES.get(line.route, line.route), PROVIDER, line.model
    metrics.count(
        "gen_ai_client_inference_usage_input_tokens_total", *labels, by=max(0, line.input_tokens)
    )
    metrics.count(
        "gen_ai_client_inference_usage_output_tokens_total", *labels, by=max(0, line.output_tokens)
    )
    if line.cached_tokens > 0:
        metrics.count(
            "gen_ai_client_inference_usage_cache_read_input_tokens_total",
            *labels,
            by=line.cached_tokens,
        )
    written = line.cache_write_tokens + line.cache_write_1h_tokens
    if written > 0:
        metrics.count(
            "gen_ai_client_inference_usage_cache_write_input_tokens_total", *labels, by=written
        )
    if line.reasoning_tokens > 0:
        metrics.count(
            "gen_ai_client_inference_usage_reasoning_output_tokens_total",
            *labels,
            by=line.reasoning_tokens,
        )
    if line.cost_nano_usd is not None and line.cost_nano_usd > 0:
        metrics.count("tallygate_cost_usd_total", line.model, by=line.cost_nano_usd / NANO_PER_USD)

"""The only list of metrics: name, kind, labels, meaning. Labels never carry keys, users, ids or words of clients. Pure.

Where the semantic conventions of OpenTelemetry have a name for it, it has that name (``schemas/gen_ai.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from schemas.events import Denial
from schemas.gen_ai import LABELS
from schemas.metric_names import MetricName

__all__ = ["FROM_ZERO", "METRICS", "MetricSpec", "decision_labels"]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric."""

    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_DURATIONS_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
)  # fmt: skip
_STAGES_S: Final = (
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
)  # fmt: skip
_LAGS_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# As the conventions say, and further, because calls of models take longer.
_GEN_AI_DURATIONS_S: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 300, 600,
)  # fmt: skip
_GEN_AI_FIRST_TOKEN_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60,
)  # fmt: skip
_GEN_AI_TOKEN_S: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5,
)  # fmt: skip

METRICS: Final[dict[MetricName, MetricSpec]] = {
    "tallygate_requests_total": MetricSpec(
        "counter",
        "Answered requests. The code is of the table of errors, empty for a success; it is also that of a stream that broke "
        "off behind a status of 200, and client_gone (499) where nobody was left to answer.",
        ("operation", "status", "code"),
    ),
    "tallygate_request_duration_seconds": MetricSpec(
        "histogram", "From reception to the last byte of the answer.", ("operation",), _DURATIONS_S
    ),
    "tallygate_inflight_requests": MetricSpec("gauge", "Requests waiting for their answer."),
    "tallygate_limit_decisions_total": MetricSpec(
        "counter",
        "Decisions of admission, and of ingress where it knows them before; a refusal says by which kind of limit and whose.",
        ("verdict", "limit_type", "scope"),
    ),
    "tallygate_budget_verdicts_total": MetricSpec(
        "counter",
        "Verdicts of the external budget service, or in its place, by which requests were decided.",
        ("verdict", "source"),
    ),
    "tallygate_budget_checks_total": MetricSpec(
        "counter", "Questions to the external budget service.", ("status",)
    ),
    "tallygate_spend_lines_total": MetricSpec(
        "counter", "Spend lines that it has taken, or refused for good.", ("status",)
    ),
    "tallygate_webhooks_total": MetricSpec(
        "counter",
        "What became of messages of webhooks when they were looked at: delivered, failed, waits (not sent, because its receiver fails or is busy), given_up.",
        ("state",),
    ),
    "tallygate_attempts_total": MetricSpec(
        "counter",
        "Backend calls that ended; the code is what the client would have heard of it, empty for a success.",
        ("backend", "status", "code"),
    ),
    "tallygate_attempt_duration_seconds": MetricSpec(
        "histogram", "Backend calls, whole.", ("backend",), _DURATIONS_S
    ),
    "tallygate_stage_duration_seconds": MetricSpec(
        "histogram",
        "Where the time of answered requests went, from the times of their events: ingress (to read and judge it), queue "
        "(in the log, for a limit, for a slot), ledger (to claim it), upstream (each call of a backend), reply (from the end of "
        "that to the last byte: booking, bus, ingress).",
        ("stage",),
        _STAGES_S,
    ),
    "tallygate_usage_export_lag_seconds": MetricSpec(
        "histogram",
        "From an outcome in the log to its usage lines in the log, of the oldest outcome of each batch.",
        (),
        _LAGS_S,
    ),
    "tallygate_consumer_lag_seconds": MetricSpec(
        "gauge",
        "Age in the log of the oldest record that a worker has to end: taken, or not read yet; 0 without one.",
        ("topic",),
    ),
    "tallygate_consumer_lag_records": MetricSpec(
        "gauge", "Records of the partitions that a worker owns which it has not ended.", ("topic",)
    ),
    "tallygate_holds": MetricSpec(
        "gauge",
        "Holds of the ledger: reserved (admitted, not begun) and running, of the shards that this process owns.",
        ("state",),
    ),
    "tallygate_oldest_hold_seconds": MetricSpec(
        "gauge",
        "Age of the oldest request among the holds that end next, 100 of a shard.",
        ("state",),
    ),
    "tallygate_component_healthy": MetricSpec(
        "gauge",
        "1 while a component of readiness is ok, 0.5 where the process can serve without it, 0 where it cannot.",
        ("component",),
    ),
    "tallygate_bound_reached": MetricSpec(
        "gauge", "1 for each bound at which ingress refuses requests now.", ("bound",)
    ),
    "tallygate_disk_free_bytes": MetricSpec(
        "gauge", "What the disk under a broker has left, as it was reported last.", ("host",)
    ),
    "tallygate_models_without_backend": MetricSpec(
        "gauge",
        "Models that nobody can serve now, as ingress sees it; 0 before it has seen anything.",
    ),
    "tallygate_config_refused_entries": MetricSpec(
        "gauge",
        "Entries of the configuration log that this process refuses; what they are about is closed.",
    ),
    "tallygate_cost_usd_total": MetricSpec(
        "counter",
        "Cost of the usage lines booked, for graphs; the exact sum is in the ledger.",
        ("model",),
    ),
    "gen_ai_server_request_duration_seconds": MetricSpec(
        "histogram",
        "Requests of models, from reception to the last byte; error_type is the code, empty for a success.",
        (*LABELS, "error_type"),
        _GEN_AI_DURATIONS_S,
    ),
    "gen_ai_server_time_to_first_token_seconds": MetricSpec(
        "histogram",
        "Streams, from the acceptance of the request to its first token.",
        LABELS,
        _GEN_AI_FIRST_TOKEN_S,
    ),
    "gen_ai_server_time_per_output_token_seconds": MetricSpec(
        "histogram", "Streams, for each token after the first.", LABELS, _GEN_AI_TOKEN_S
    ),
    "gen_ai_client_inference_usage_input_tokens_total": MetricSpec(
        "counter", "Input tokens booked, cached ones included.", LABELS
    ),
    "gen_ai_client_inference_usage_output_tokens_total": MetricSpec(
        "counter", "Output tokens booked, reasoning included.", LABELS
    ),
    "gen_ai_client_inference_usage_cache_read_input_tokens_total": MetricSpec(
        "counter", "Input tokens among them that were read from a cache.", LABELS
    ),
    "gen_ai_client_inference_usage_cache_write_input_tokens_total": MetricSpec(
        "counter", "Input tokens among them that were written to a cache.", LABELS
    ),
    "gen_ai_client_inference_usage_reasoning_output_tokens_total": MetricSpec(
        "counter", "Output tokens among them that were spent on reasoning.", LABELS
    ),
    "tallygate_excess_usage_total": MetricSpec(
        "counter", "Attempts whose backend said more than the proved bound.", ("verdict",)
    ),
    "tallygate_usage_lines_total": MetricSpec("counter", "Usage lines produced."),
    "tallygate_batch_records": MetricSpec(
        "histogram", "Records of one batch of a worker.", (), _SIZES
    ),
    "tallygate_dead_letters_total": MetricSpec("counter", "Dead letters.", ("topic",)),
    "tallygate_unfinished_records": MetricSpec("gauge", "Records taken and not finished."),
    "tallygate_oldest_unfinished_seconds": MetricSpec("gauge", "Age of the oldest of them."),
    "tallygate_config_offset": MetricSpec("gauge", "Offset of the config log in force."),
    "tallygate_reaped_attempts_total": MetricSpec(
        "counter", "Attempts ended by the reaper.", ("verdict",)
    ),
    "tallygate_late_attempts_total": MetricSpec(
        "counter", "Attempts that ended after somebody else had booked their hold."
    ),
    "tallygate_forged_entries_total": MetricSpec(
        "counter", "Records of the configuration log that nobody who may write has signed."
    ),
    "tallygate_thresholds_total": MetricSpec(
        "counter",
        "Budgets and quotas that were spent to a percentage of theirs, once for each limit and period.",
        ("kind", "percent"),
    ),
    "tallygate_reconciled_outcomes_total": MetricSpec(
        "counter", "Outcomes that were settled and not in the log, and were produced again."
    ),
    "tallygate_ledger_rebuilds_total": MetricSpec(
        "counter", "Shards of the ledger that were rebuilt from the log.", ("kind",)
    ),
    "tallygate_ledger_rebuild_seconds": MetricSpec(
        "histogram",
        "From the cause that was seen to the shard that decides again.",
        (),
        _DURATIONS_S,
    ),
    "tallygate_ledger_foreign_shards": MetricSpec(
        "gauge", "Shards of the ledger that are closed because they belong to another log."
    ),
    "tallygate_backend_healthy": MetricSpec(
        "gauge",
        "1 while neither probes nor calls speak against the backend, or it is drained on purpose.",
        ("backend",),
    ),
    "tallygate_overrides_in_force": MetricSpec(
        "gauge", "Overrides of routes and backends that this dispatcher goes by."
    ),
    "tallygate_shed_requests_total": MetricSpec(
        "counter", "Requests told to come back later, because they would have waited too long."
    ),
    "tallygate_flex_waiting_requests": MetricSpec(
        "gauge", "Flex requests that wait for room at this limiter."
    ),
    "tallygate_batches_open": MetricSpec(
        "gauge", "Batches that have not ended, whoever runs them; each process counts all."
    ),
    "tallygate_batch_lines": MetricSpec(
        "gauge",
        "Lines under way in this process: without a code as requests, with one while they wait to be tried again after it.",
        ("error_type",),
    ),
    "tallygate_batch_lines_total": MetricSpec(
        "counter", "Lines that ended: succeeded, failed or expired.", ("state",)
    ),
    "tallygate_batch_oldest_line_seconds": MetricSpec(
        "gauge", "How long ago the oldest of the lines under way was first tried; 0 without any."
    ),
    "tallygate_batch_takeovers_total": MetricSpec(
        "counter", "Batches that were gone on with where another process left them."
    ),
    "tallygate_queued_requests": MetricSpec("gauge", "Requests that wait for a backend's slot."),
    "tallygate_produce_requests_total": MetricSpec("counter", "Batches sent to a broker."),
    "tallygate_produced_records_total": MetricSpec("counter", "Records in them."),
    "tallygate_produced_bytes_total": MetricSpec("counter", "Bytes of them as sent."),
    "tallygate_inbox_batches_total": MetricSpec(
        "counter", "Batches handed to the handler of a topic.", ("topic",)
    ),
    "tallygate_inbox_records_total": MetricSpec("counter", "Records in them.", ("topic",)),
    "tallygate_store_commands_total": MetricSpec(
        "counter", "Commands sent to the ledger or the bus.", ("kind",)
    ),
    "tallygate_store_flushes_total": MetricSpec(
        "counter", "Writes that carried them, a batch of commands each.", ("kind",)
    ),
    "tallygate_spans_total": MetricSpec(
        "counter",
        "Spans of traced requests: exported, refused by the receiver, or dropped because it does not keep up.",
        ("status",),
    ),
    "tallygate_loop_wakeups_total": MetricSpec(
        "counter", "Times that the thread of the event loop slept and was woken."
    ),
    "tallygate_tasks_total": MetricSpec("counter", "Tasks, where TALLYGATE_COUNT_LOOP is set."),
    "tallygate_timers_total": MetricSpec("counter", "Timers, likewise."),
    "tallygate_futures_total": MetricSpec("counter", "Futures made by the loop, likewise."),
    "tallygate_calls_total": MetricSpec(
        "counter", "Calls of functions, where TALLYGATE_COUNT_CALLS is set."
    ),
    "tallygate_replies_dropped_total": MetricSpec(
        "counter", "Replies of the limiter that the bus did not take in time."
    ),
    "tallygate_producer_renewals_total": MetricSpec(
        "counter", "Producers made new because the sequence of their batches was lost."
    ),
    "tallygate_task_failures_total": MetricSpec(
        "counter", "Background tasks that failed and were started again.", ("kind",)
    ),
    "tallygate_clock_local_ahead_seconds": MetricSpec(
        "gauge", "How far this machine's clock is ahead of the ledger's; it is corrected."
    ),
    "tallygate_clock_broker_ahead_seconds": MetricSpec(
        "gauge", "How far the broker's clock is ahead of the ledger's, as acknowledgements tell."
    ),
    "tallygate_clock_error_seconds": MetricSpec(
        "gauge", "How far the time of this process may be off the ledger's after correction."
    ),
    "tallygate_ledger_difference": MetricSpec(
        "gauge", "What verification last found to differ in a shard, without signs.", ("shard",)
    ),
    "tallygate_ledger_equal_at_seconds": MetricSpec(
        "gauge", "When a shard and the log were last found equal, Unix seconds.", ("shard",)
    ),
    "tallygate_tokens_judged_total": MetricSpec(
        "counter", "Tokens of an identity provider, as they were judged.", ("kind", "verdict")
    ),
    "tallygate_identity_questions_total": MetricSpec(
        "counter",
        "What identity providers and the user-org service were asked, and how that ended.",
        ("kind", "verdict"),
    ),
    "tallygate_certificate_expires_at_seconds": MetricSpec(
        "gauge", "When the certificate of the admin port ends, Unix seconds; 0 without TLS."
    ),
    "tallygate_paused_partitions": MetricSpec(
        "gauge", "Partitions that are not read for a stated cause.", ("topic",)
    ),
}

FROM_ZERO: Final[dict[str, tuple[tuple[MetricName, *tuple[str, ...]], ...]]] = {
    "limiter_worker": (
        ("tallygate_reaped_attempts_total", "voided"),
        ("tallygate_reaped_attempts_total", "unknown"),
    ),
    "dispatcher": (("tallygate_late_attempts_total",), ("tallygate_shed_requests_total",)),
    "accounting": (
        ("tallygate_late_attempts_total",),
        ("tallygate_ledger_rebuilds_total", "empty"),
        ("tallygate_ledger_rebuilds_total", "epoch"),
        *(
            ("tallygate_thresholds_total", kind, percent)
            for kind in ("budget", "quota")
            for percent in ("50", "80", "100")
        ),
    ),
}
"""Role to what it counts so rarely that its first time would be missed: what is first seen above 0 has not risen for whoever asks
by how much. Each is shown at 0 from the start of the process."""


def decision_labels(verdict: str, denial: Denial | None) -> tuple[str, str, str]:
    """The labels of a decision: its verdict, and the kind and owner of the limit that refused, if one did."""
    if denial is None:
        return verdict, "", ""
    return verdict, denial.limit_type, denial.limit_id.partition(":")[0]

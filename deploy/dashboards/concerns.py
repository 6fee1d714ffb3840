"""A dashboard for each concern: limits and money, backends, log and stores. Pure."""

from __future__ import annotations

from deploy.dashboards.panel import Board, Panel, Query, Row, or_none, quantile, rate, risen

_TOKENS = "gen_ai_client_inference_usage_{}_tokens_total"

LIMITS_AND_MONEY = Board(
    "tallygate-limits-and-money",
    "Tallygate: limits and money",
    "Who is refused what, what is on hold, what was spent, and whether the books agree.",
    (
        Row(
            "Decisions",
            (
                Panel(
                    "Decisions",
                    "Of admission, and of ingress where it knows them before.",
                    (Query(rate("tallygate_limit_decisions_total", "verdict"), "{{verdict}}"),),
                    "reqps",
                    "stacked",
                ),
                Panel(
                    "Refusals by limit",
                    "By the kind of limit and whose it is; `tallygate audit list --org ORG` names the requests.",
                    (
                        Query(
                            or_none(
                                rate(
                                    "tallygate_limit_decisions_total",
                                    "limit_type, scope",
                                    'limit_type!=""',
                                )
                            ),
                            "{{limit_type}} of {{scope}}",
                        ),
                    ),
                    "reqps",
                    "stacked",
                ),
                Panel(
                    "Verdicts of an external budget service",
                    "Or in its place, while it is silent; 0 without one.",
                    (
                        Query(
                            or_none(rate("tallygate_budget_verdicts_total", "verdict, source")),
                            "{{verdict}} {{source}}",
                        ),
                    ),
                    "reqps",
                ),
            ),
        ),
        Row(
            "Holds",
            (
                Panel(
                    "Holds",
                    "Reserved waits for a backend, running has one. Every hold ends: booked, voided or expired.",
                    (Query("sum by (state) (tallygate_holds)", "{{state}}"),),
                    shape="stacked",
                ),
                Panel(
                    "Oldest hold",
                    "Beyond the longest deadline nothing may be on hold.",
                    (Query("max by (state) (tallygate_oldest_hold_seconds)", "{{state}}"),),
                    "s",
                ),
                Panel(
                    "Ended by the reaper, or late",
                    "Holds whose owner vanished, and attempts that ended after their hold was booked by somebody else.",
                    (
                        Query(
                            or_none(rate("tallygate_reaped_attempts_total", "verdict")),
                            "reaped, {{verdict}}",
                        ),
                        Query(or_none(rate("tallygate_late_attempts_total")), "late"),
                    ),
                ),
            ),
        ),
        Row(
            "Money",
            (
                Panel(
                    "Tokens a second, by kind",
                    "As they were booked.",
                    tuple(
                        Query(or_none(rate(_TOKENS.format(kind))), kind.replace("_", " "))
                        for kind in (
                            "input",
                            "output",
                            "cache_read_input",
                            "cache_write_input",
                            "reasoning_output",
                        )
                    ),
                ),
                Panel(
                    "Cost in the range, by model",
                    "For graphs; the exact sum is `tallygate usage report`.",
                    (
                        Query(
                            risen("tallygate_cost_usd_total", "model"),
                            "{{model}}",
                        ),
                    ),
                    "currencyUSD",
                ),
                Panel(
                    "Usage lines a second",
                    "One for each attempt, and for each correction of one.",
                    (Query(rate("tallygate_usage_lines_total")),),
                ),
                Panel(
                    "Usage is exported after",
                    "From an outcome in the log to its usage lines, the oldest of each batch.",
                    (
                        Query(quantile(0.5, "tallygate_usage_export_lag_seconds"), "p50"),
                        Query(quantile(0.99, "tallygate_usage_export_lag_seconds"), "p99"),
                    ),
                    "s",
                ),
                Panel(
                    "Differences of the books",
                    "What verification last found to differ, by shard; anything but 0 is looked into.",
                    (Query(or_none("max by (shard) (tallygate_ledger_difference)"), "{{shard}}"),),
                    bad_from=1,
                ),
                Panel(
                    "Limits spent to a share, in the range",
                    "Budgets and quotas that reached 50, 80 or 100 %.",
                    (
                        Query(
                            risen("tallygate_thresholds_total", "kind, percent"),
                            "{{kind}} {{percent}} %",
                        ),
                    ),
                ),
            ),
        ),
    ),
)

BACKENDS = Board(
    "tallygate-backends",
    "Tallygate: backends",
    "How those are that do the work: whether they answer, how fast, and who waits for them.",
    (
        Row(
            "Health",
            (
                Panel(
                    "Healthy",
                    "As the worst dispatcher sees it; `tallygate backends list` says why.",
                    (Query("min by (backend) (tallygate_backend_healthy)", "{{backend}}"),),
                    shape="states",
                    bad_below=1,
                ),
                Panel(
                    "Calls",
                    "That ended, by backend and how.",
                    (
                        Query(
                            rate("tallygate_attempts_total", "backend, status"),
                            "{{backend}} {{status}}",
                        ),
                    ),
                    "reqps",
                    "stacked",
                ),
                Panel(
                    "Calls that are no success, by code",
                    "What a client would have heard of it, had no other backend helped.",
                    (
                        Query(
                            or_none(rate("tallygate_attempts_total", "backend, code", 'code!=""')),
                            "{{backend}} {{code}}",
                        ),
                    ),
                    "reqps",
                    "stacked",
                ),
            ),
        ),
        Row(
            "Speed",
            (
                Panel(
                    "Calls, whole",
                    "95 of 100 are shorter.",
                    (
                        Query(
                            quantile(0.95, "tallygate_attempt_duration_seconds", "backend"),
                            "{{backend}}",
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "First token of streams",
                    "95 of 100 come sooner, from the acceptance of the request on.",
                    (
                        Query(
                            quantile(
                                0.95,
                                "gen_ai_server_time_to_first_token_seconds",
                                "gen_ai_request_model",
                            ),
                            "{{gen_ai_request_model}}",
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "Each token after the first",
                    "95 of 100 streams need less for one.",
                    (
                        Query(
                            quantile(
                                0.95,
                                "gen_ai_server_time_per_output_token_seconds",
                                "gen_ai_request_model",
                            ),
                            "{{gen_ai_request_model}}",
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "Requests of models",
                    "Whole answers, by model; 95 of 100 are faster.",
                    (
                        Query(
                            quantile(
                                0.95,
                                "gen_ai_server_request_duration_seconds",
                                "gen_ai_request_model",
                                'error_type=""',
                            ),
                            "{{gen_ai_request_model}}",
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "Waiting",
                    "Requests that wait for a slot, and that were told to come back because they would have waited too long.",
                    (
                        Query("sum(tallygate_queued_requests)", "wait"),
                        Query(or_none(rate("tallygate_shed_requests_total")), "refused a second"),
                    ),
                ),
                Panel(
                    "Lines of batches a second",
                    "By their end; `tallygate_batch_lines` with a code counts those that wait to be tried again.",
                    (Query(or_none(rate("tallygate_batch_lines_total", "state")), "{{state}}"),),
                ),
                Panel(
                    "Lines of batches under way",
                    "As requests, or waiting to be tried again after a refusal that cost nothing; and batches that have not ended.",
                    (
                        Query(or_none('sum(tallygate_batch_lines{error_type=""})'), "as requests"),
                        Query(
                            or_none('sum by (error_type) (tallygate_batch_lines{error_type!=""})'),
                            "wait after {{error_type}}",
                        ),
                        Query(or_none("max(tallygate_batches_open)"), "open batches"),
                    ),
                ),
                Panel(
                    "Oldest line of a batch",
                    "Since it was first tried. One that grows while lines wait after a code is held up by that; without one, something hangs.",
                    (Query(or_none("max(tallygate_batch_oldest_line_seconds)")),),
                    "s",
                ),
                Panel(
                    "Models without a backend, and overrides",
                    "What nobody can serve now, and what operators put over the declared routes.",
                    (
                        Query("max(tallygate_models_without_backend)", "models without a backend"),
                        Query("max(tallygate_overrides_in_force)", "overrides"),
                    ),
                ),
            ),
        ),
    ),
)

LOG_AND_STORES = Board(
    "tallygate-log-and-stores",
    "Tallygate: log and stores",
    "Whether the log is read in time, the stores answer, and the processes have what they need.",
    (
        Row(
            "Log",
            (
                Panel(
                    "Behind, in seconds",
                    "Age of the oldest record that a worker has to end; deferred and background topics wait on purpose.",
                    (Query("max by (topic) (tallygate_consumer_lag_seconds)", "{{topic}}"),),
                    "s",
                ),
                Panel(
                    "Behind, in records",
                    "Taken or not read yet.",
                    (Query("sum by (topic) (tallygate_consumer_lag_records)", "{{topic}}"),),
                ),
                Panel(
                    "Paused partitions",
                    "That are not read for a stated cause: `/readyz` of the worker says which.",
                    (Query("sum by (topic) (tallygate_paused_partitions)", "{{topic}}"),),
                    bad_from=1,
                ),
                Panel(
                    "Records a second",
                    "Written, by role; and read, by topic.",
                    (
                        Query(
                            rate("tallygate_produced_records_total", "role"), "written, {{role}}"
                        ),
                        Query(rate("tallygate_inbox_records_total", "topic"), "read, {{topic}}"),
                    ),
                ),
                Panel(
                    "Bytes written",
                    "As sent to brokers.",
                    (Query(rate("tallygate_produced_bytes_total", "role"), "{{role}}"),),
                    "Bps",
                ),
                Panel(
                    "Free disk of brokers",
                    "Below the bound ingress takes nothing new: `TALLYGATE_DISK_FREE_MIN_BYTES`.",
                    (Query("min by (host) (tallygate_disk_free_bytes)", "{{host}}"),),
                    "bytes",
                ),
            ),
        ),
        Row(
            "Stores",
            (
                Panel(
                    "Commands a second",
                    "To the ledger and the bus.",
                    (Query(rate("tallygate_store_commands_total", "kind"), "{{kind}}"),),
                ),
                Panel(
                    "Commands of one write",
                    "More is cheaper: they travel together.",
                    (
                        Query(
                            f"{rate('tallygate_store_commands_total', 'kind')}"
                            f" / {rate('tallygate_store_flushes_total', 'kind')}",
                            "{{kind}}",
                        ),
                    ),
                ),
                Panel(
                    "Rebuilds, and shards of another log",
                    "Shards of the ledger that were made again in the range, and that are closed.",
                    (
                        Query(
                            risen("tallygate_ledger_rebuilds_total", "kind"),
                            "rebuilt, {{kind}}",
                        ),
                        Query(or_none("sum(tallygate_ledger_foreign_shards)"), "of another log"),
                    ),
                ),
            ),
        ),
        Row(
            "Processes",
            (
                Panel(
                    "Configuration",
                    "Offset in force by role; a process that stays behind goes by old limits.",
                    (Query("min by (role) (tallygate_config_offset)", "{{role}}"),),
                ),
                Panel(
                    "Refused entries",
                    "Of the configuration; what they are about is closed.",
                    (Query("max by (role) (tallygate_config_refused_entries)", "{{role}}"),),
                    bad_from=1,
                ),
                Panel(
                    "Clock error",
                    "How far a process's time may be off the ledger's after correction.",
                    (Query("max by (role) (tallygate_clock_error_seconds)", "{{role}}"),),
                    "s",
                ),
                Panel(
                    "Memory",
                    "Resident, of each process.",
                    (Query("max by (role) (process_resident_memory_bytes)", "{{role}}"),),
                    "bytes",
                ),
                Panel(
                    "Processor",
                    "Cores in use by role.",
                    (Query(rate("process_cpu_seconds_total", "role"), "{{role}}"),),
                ),
                Panel(
                    "Open files",
                    "Share of what the process may have open.",
                    (Query("max by (role) (process_open_fds / process_max_fds)", "{{role}}"),),
                    "percentunit",
                    bad_from=0.8,
                ),
            ),
        ),
    ),
)

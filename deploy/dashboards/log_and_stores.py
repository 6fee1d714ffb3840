"""The dashboard of the log, the stores, and batches. Pure."""

from __future__ import annotations

from deploy.dashboards.panel import Board, Panel, Query, Row, or_none, rate, risen

_TOKENS = "gen_ai_client_inference_usage_{}_tokens_total"

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

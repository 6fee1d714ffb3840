"""The dashboard of limits and money. Pure."""

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

"""The dashboard of backends. Pure."""

from __future__ import annotations

from deploy.dashboards.panel import Board, Panel, Query, Row, or_none, quantile, rate

_TOKENS = "gen_ai_client_inference_usage_{}_tokens_total"

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

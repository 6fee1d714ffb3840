"""The first dashboard: the state of the gateway in ten seconds, from left to right and from top to bottom. Pure."""

from __future__ import annotations

from deploy.dashboards.panel import Board, Panel, Query, Row, or_none, quantile, rate, risen

_MODELS = 'operation!~"status|metrics|admin|door|other|models"'

_NOW = Row(
    "Now",
    (
        Panel(
            "Worst component",
            "1: everything works. 0.5: something is amiss and requests are served. 0: something that is needed is gone; the "
            "table below names it.",
            (Query("min(tallygate_component_healthy)"),),
            shape="number",
            bad_below=1,
            width=4,
        ),
        Panel(
            "Requests",
            "Answers a second, of models and jobs.",
            (Query(rate("tallygate_requests_total", where=_MODELS)),),
            "reqps",
            "number",
            width=4,
        ),
        Panel(
            "Bad answers",
            "Share of answers that we owe better: 5xx, and streams that broke off. Refusals of clients are not among them.",
            (Query("tallygate:bad_requests:ratio_rate5m"),),
            "percentunit",
            "number",
            bad_from=0.001,
            width=4,
        ),
        Panel(
            "Slowest twentieth",
            "95 of 100 answers are faster. Where the time goes is below.",
            (Query(quantile(0.95, "tallygate_request_duration_seconds", where=_MODELS)),),
            "s",
            "number",
            width=4,
        ),
        Panel(
            "Backends that are well",
            "Share of all. What the others suffer from is on *Backends*.",
            (Query("avg(tallygate_backend_healthy)"),),
            "percentunit",
            "number",
            bad_below=1,
            width=4,
        ),
        Panel(
            "Behind the log",
            "Age of the oldest record that a worker has to end and nobody meant to wait: seconds are a backlog.",
            (Query('max(tallygate_consumer_lag_seconds{topic!~".*(deferred|background).*"})'),),
            "s",
            "number",
            bad_from=10,
            width=4,
        ),
    ),
)

_TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Answers by operation",
            "What clients do.",
            (Query(rate("tallygate_requests_total", "operation", _MODELS), "{{operation}}"),),
            "reqps",
            "stacked",
        ),
        Panel(
            "Answers that are no success, by code",
            "The codes are those of the table of errors; client_gone left by itself.",
            (
                Query(
                    or_none(rate("tallygate_requests_total", "status, code", 'code!=""')),
                    "{{status}} {{code}}",
                ),
            ),
            "reqps",
            "stacked",
        ),
        Panel(
            "Latency",
            "From reception to the last byte; a dot is a request, whose id and trace it shows.",
            (
                Query(quantile(0.5, "tallygate_request_duration_seconds", where=_MODELS), "p50"),
                Query(quantile(0.95, "tallygate_request_duration_seconds", where=_MODELS), "p95"),
                Query(quantile(0.99, "tallygate_request_duration_seconds", where=_MODELS), "p99"),
            ),
            "s",
        ),
        Panel(
            "Where the time goes",
            "Mean of each stage of an answered request. All but upstream is the gateway's own.",
            (
                Query(
                    f"{rate('tallygate_stage_duration_seconds_sum', 'stage')}"
                    f" / {rate('tallygate_stage_duration_seconds_count', 'stage')}",
                    "{{stage}}",
                ),
            ),
            "s",
            "stacked",
        ),
        Panel(
            "Tokens a second",
            "As they were booked.",
            (
                Query(rate("gen_ai_client_inference_usage_input_tokens_total"), "input"),
                Query(rate("gen_ai_client_inference_usage_output_tokens_total"), "output"),
            ),
        ),
        Panel(
            "Cost an hour",
            "At the speed of now, by model; models without a price are not in it.",
            (Query(or_none(f"3600 * {rate('tallygate_cost_usd_total', 'model')}"), "{{model}}"),),
            "currencyUSD",
            "stacked",
        ),
    ),
)

_STATE = Row(
    "State",
    (
        Panel(
            "Components, over time",
            "1 well, 0.5 amiss, 0 gone; the worst of all processes.",
            (Query("min by (component) (tallygate_component_healthy)", "{{component}}"),),
            shape="states",
            width=12,
        ),
        Panel(
            "Bounds that are reached",
            "What makes ingress refuse requests now; `tallygate doctor` says what to do.",
            (Query(or_none("max by (bound) (tallygate_bound_reached)"), "{{bound}}"),),
            shape="states",
            bad_from=1,
        ),
        Panel(
            "Processes",
            "That answer Prometheus.",
            (Query('sum by (role) (up{job="tallygate"})', "{{role}}"),),
            shape="number",
            bad_below=1,
            width=4,
        ),
        Panel(
            "Error budget burnt, by window",
            "1 is what may be burnt to last thirty days at 99.9 %; pages begin at 14.4 in an hour and 6 in six.",
            (
                Query("tallygate:bad_requests:ratio_rate1h / 0.001", "1 h"),
                Query("tallygate:bad_requests:ratio_rate6h / 0.001", "6 h"),
                Query("tallygate:bad_requests:ratio_rate3d / 0.001", "3 d"),
            ),
            bad_from=6,
            width=12,
        ),
        Panel(
            "Dead letters",
            "Records that can never succeed, in the range shown: `tallygate dlq list`.",
            (
                Query(
                    risen("tallygate_dead_letters_total", "topic"),
                    "{{topic}}",
                ),
            ),
            bad_from=1,
            width=12,
        ),
    ),
)

OVERVIEW = Board(
    "tallygate-overview",
    "Tallygate",
    "The state of the gateway in ten seconds: the first row says whether, the second how, the third what.",
    (_NOW, _TRAFFIC, _STATE),
)

"""The options that set limits, and their effect on the limits an entity has: pure.

What is not mentioned stays as it is; a budget replaces the one of the same period.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from deploy.cli.command import finite, given, positive
from deploy.cli.output import CommandFailed, Exit


def add_limit_options(parser: argparse.ArgumentParser, periods: tuple[str, ...]) -> None:
    """``--rps``, ``--burst``, ``--budget-usd`` with ``--period``, and the others."""
    parser.add_argument("--rps", type=finite, help="requests per second")
    parser.add_argument("--burst", type=positive, help="requests at once")
    parser.add_argument("--tokens-per-min", type=positive, help="tokens per minute")
    parser.add_argument("--concurrency", type=positive, help="requests under way at once")
    parser.add_argument("--budget-usd", metavar="USD", help="ceiling on cost, such as 12.50")
    parser.add_argument("--period", choices=periods, help="of the budget")
    parser.add_argument(
        "--on-limit", choices=("reject", "defer"), help="what happens to a request over the limit"
    )


def changed_limits(options: argparse.Namespace, current: Mapping[str, Any]) -> dict[str, Any]:
    """The limits after the options. Raises ``CommandFailed`` for a budget without a period."""
    limits = dict(current) | given(
        requests_per_s=options.rps,
        burst=options.burst,
        tokens_per_min=options.tokens_per_min,
        concurrency=options.concurrency,
        on_limit=options.on_limit,
    )
    if (options.budget_usd is None) != (options.period is None):
        raise CommandFailed(
            "--budget-usd and --period belong together",
            "a budget is an amount per period",
            "give both, such as --budget-usd 10 --period month",
            Exit.USAGE,
        )
    if options.budget_usd is not None:
        others = [b for b in limits.get("budgets", ()) if b["period"] != options.period]
        limits["budgets"] = [*others, {"usd": options.budget_usd, "period": options.period}]
    return limits


def budgets_text(limits: Mapping[str, Any]) -> str:
    """Budgets for a table, such as ``10/month``."""
    return ",".join(f"{b['usd']}/{b['period']}" for b in limits.get("budgets", ()))

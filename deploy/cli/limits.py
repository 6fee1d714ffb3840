"""The options that set limits, and their effect on the limits an entity has: pure.

What is not mentioned stays as it is; a budget replaces the one of the same period.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from deploy.cli.command import given
from deploy.cli.options import positive, rate
from deploy.cli.output import CommandFailed, Exit


@dataclass(frozen=True)
class LimitOptions:
    """The limits that a command line mentions."""

    rps: Annotated[
        float | None, typer.Option(parser=rate, metavar="N", help="requests per second")
    ] = None
    burst: Annotated[
        int | None, typer.Option(parser=positive, metavar="N", help="requests at once")
    ] = None
    tokens_per_min: Annotated[
        int | None, typer.Option(parser=positive, metavar="N", help="tokens per minute")
    ] = None
    concurrency: Annotated[
        int | None, typer.Option(parser=positive, metavar="N", help="requests under way at once")
    ] = None
    budget_usd: Annotated[
        str | None, typer.Option(metavar="USD", help="ceiling on cost, such as 12.50")
    ] = None
    period: Annotated[
        Literal["day", "month", "total"] | None, typer.Option(help="of the budget")
    ] = None
    on_limit: Annotated[
        Literal["reject", "defer"] | None,
        typer.Option(help="what happens to a request over the limit"),
    ] = None


def changed_limits(options: LimitOptions, current: Mapping[str, Any]) -> dict[str, Any]:
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

"""The options of replays: which records, and from where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from deploy.cli.options import Brokers


@dataclass(frozen=True)
class RangeOptions:
    """What is replayed."""

    topic: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC",
            help="what is read (inference.outcomes.v1, as limiter inference.requests.v1); copies, too",
        ),
    ] = None
    spans: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="RANGE",
            help="@-48h:-24h: appended then; 100:200: these offsets; 3/100:200: of partition 3, repeatable (all)",
        ),
    ] = None
    org: Annotated[
        list[str] | None, typer.Option(metavar="ORG", help="only of this organization; repeatable")
    ] = None
    model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="only of this model; repeatable")
    ] = None
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help="only of this status, such as failed; repeatable"),
    ] = None
    brokers: Brokers = None

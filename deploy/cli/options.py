"""Options that several commands have, and how their texts become values."""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

import typer


def positive(text: str) -> int:
    """An option's whole number above 0. Raises ``ValueError``."""
    number = int(text)
    if number < 1:
        raise ValueError(f"{text} is not above 0")
    return number


def finite(text: str) -> float:
    """An option's number; JSON has none that is not finite. Raises ``ValueError``."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


Org: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ORG", help="only of this organization")
]
Start: TypeAlias = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="RFC 3339, inclusive")
]
End: TypeAlias = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="RFC 3339, exclusive")
]
Payload: TypeAlias = Annotated[
    bool, typer.Option("--payload", help="show the texts, not their sizes")
]
Brokers: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT,...",
        envvar="TALLYGATE_KAFKA_BROKERS",
        help="Kafka; the default is what the gateway itself uses",
    ),
]

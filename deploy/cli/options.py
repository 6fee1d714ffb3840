"""Options that several commands have, and how their texts become values."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias

import typer

_WHOLE: Final = re.compile(r"[0-9]{1,16}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{1,9})?", re.ASCII)
_HOUR_S: Final = 3_600


def whole(text: str | int) -> int:
    """An option's whole number: plain digits, nothing else that Python takes for one. Raises ``ValueError``.

    Typer hands over what stands there by default, too.
    """
    if not _WHOLE.fullmatch(str(text)):
        raise ValueError(f"{text} is not a whole number")
    return int(text)


def positive(text: str | int) -> int:
    """An option's whole number above 0. Raises ``ValueError``."""
    number = whole(text)
    if number < 1:
        raise ValueError(f"{text} is not above 0")
    return number


def decimal(text: str | float) -> float:
    """An option's number of 0 or more, such as 2.5. Raises ``ValueError``."""
    if not _NUMBER.fullmatch(str(text)):
        raise ValueError(f"{text} is not a number such as 2.5")
    return float(text)


def rate(text: str | float) -> float:
    """An option's number above 0. Raises ``ValueError``."""
    number = decimal(text)
    if not number:
        raise ValueError(f"{text} is not above 0")
    return number


def seconds(text: str | float) -> float:
    """An option's time, above 0 and at most an hour. Raises ``ValueError``."""
    number = rate(text)
    if number > _HOUR_S:
        raise ValueError(f"{text} is above {_HOUR_S}")
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

"""Options that several commands have, and how their texts become values."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias

import typer

_WHOLE: Final = re.compile(r"[0-9]{1,16}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{1,9})?", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9_.:-]{1,253}", re.ASCII)
_HOUR_S: Final = 3_600
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


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


def duration(text: str | float) -> float:
    """An option's time in seconds, such as ``90s``, ``30m``, ``24h`` or ``7d``; 0 needs no unit. Raises ``ValueError``."""
    if str(text) in ("0", "0.0"):
        return 0.0
    found = _DURATION.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text} is not a time such as 90s, 30m, 24h or 7d")
    return int(found[1]) * _UNIT_S[found[2]]


def moment_ms(text: str) -> int:
    """An option's instant in Unix milliseconds: RFC 3339, UTC where it names no offset. Raises ``ValueError``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is not an RFC 3339 date or date-time") from None
    at_utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(at_utc.timestamp() * 1_000)


def host_name(text: str) -> str:
    """An option's address or name of a host. Raises ``ValueError``."""
    if not _HOST.fullmatch(text):
        raise ValueError(f"{text} is no name of a host")
    return text


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

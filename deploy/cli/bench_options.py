"""What a command line says of a bench. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from deploy.bench.arrivals import CONSTANT, KINDS
from deploy.cli.options import positive, rate, whole

_SCALE_MIN, _SCALE_MAX = 0.01, 10.0
_RUNS_MAX = 20
_RATE_MAX = 20_000


def scale(text: str | float) -> float:
    """How long everything takes against what is usual. Raises ``ValueError``."""
    number = rate(text)
    if not _SCALE_MIN <= number <= _SCALE_MAX:
        raise ValueError(f"{text} is not between {_SCALE_MIN:g} and {_SCALE_MAX:g}")
    return number


def runs(text: str | int) -> int:
    """How often each scenario runs. Raises ``ValueError``."""
    number = positive(text)
    if number > _RUNS_MAX:
        raise ValueError(f"{text} is above {_RUNS_MAX}")
    return number


def offered(text: str | float) -> float:
    """Requests per second. Raises ``ValueError``."""
    number = rate(text)
    if number > _RATE_MAX:
        raise ValueError(f"{text} is above {_RATE_MAX}")
    return number


def arrivals(text: str) -> str:
    """How requests of an open loop arrive. Raises ``ValueError``."""
    if text not in KINDS:
        raise ValueError(f"{text} is not one of {', '.join(KINDS)}")
    return text


@dataclass(frozen=True)
class LoadOptions:
    """How much is offered, how, and for how long."""

    rate: Annotated[
        float, typer.Option(parser=offered, metavar="N", help="requests per second of open loops")
    ] = 50.0
    connections: Annotated[
        int, typer.Option(parser=positive, metavar="N", help="connections of closed loops")
    ] = 64
    arrivals: Annotated[
        str, typer.Option(parser=arrivals, metavar="KIND", help="of open loops: constant, poisson")
    ] = CONSTANT
    seed: Annotated[int, typer.Option(parser=whole, metavar="N", help="of poisson arrivals")] = 1
    scale: Annotated[
        float,
        typer.Option(parser=scale, metavar="X", help="how long it takes, times what is usual"),
    ] = 1.0
    runs: Annotated[
        int, typer.Option(parser=runs, metavar="N", help="how often, in turn; medians are told")
    ] = 1
    must_meet: Annotated[
        bool, typer.Option("--must-meet", help="exit code 1 also when a goal is missed")
    ] = False
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page with pictures (HTML)")
    ] = None


@dataclass(frozen=True)
class GatewayOptions:
    """A gateway that runs already."""

    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="its API, like OPENAI_BASE_URL; a stack of its own if not given"
        ),
    ] = None
    key_env: Annotated[str, typer.Option(metavar="VARIABLE", help="where its API key stands")] = (
        "TALLYGATE_API_KEY"
    )
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="the key itself; others see command lines")
    ] = None
    model: Annotated[str, typer.Option(metavar="NAME", help="the model to ask it for")] = "echo-1"
    backend_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="the model's backend, whose own time is taken off"),
    ] = None
    brokers: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT,...", help="its Kafka, where stages of requests stand"),
    ] = None
    pids: Annotated[
        str | None,
        typer.Option(metavar="NAME=PID,...", help="processes whose CPU and memory are told"),
    ] = None

"""What a command line says of a backend's check. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from deploy.cli.options import positive, seconds


@dataclass(frozen=True)
class CheckOptions:
    """What a check may do and say."""

    key_env: Annotated[
        str | None,
        typer.Option(
            metavar="VARIABLE", help="where the backend's key stands, such as BACKEND_GPU_1_API_KEY"
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="the model to ask; the first listed if not given"),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="what the backend is called here; of its address if not given"
        ),
    ] = None
    context_tokens: Annotated[
        int | None,
        typer.Option(
            parser=positive,
            metavar="TOKENS",
            help="the model's context: asks with a longer prompt, which may cost so many tokens",
        ),
    ] = None
    within_s: Annotated[
        float, typer.Option(parser=seconds, metavar="S", help="how long each answer may take")
    ] = 20.0
    idle_s: Annotated[
        float,
        typer.Option(parser=seconds, metavar="S", help="how long an idle connection is watched"),
    ] = 15.0
    write: Annotated[
        bool, typer.Option("--write", help="write the entries; fields that are not learned stay")
    ] = False

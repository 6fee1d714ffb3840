"""``tallygate models``: a model's route and price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.options import positive, whole
from deploy.cli.output import CommandFailed, Exit
from deploy.cli.table import table
from deploy.desired_state.views import written_fields

_COLUMNS = ("id", "route", "input_usd_per_mtok", "output_usd_per_mtok", "default_max_output_tokens")
_Usd: TypeAlias = Annotated[str | None, typer.Option(metavar="USD", help="per million tokens")]

APP = noun("models", "Models: routes and prices.")


@dataclass(frozen=True)
class ModelOptions:
    """The prices and bounds that a command line mentions."""

    input_usd_per_mtok: _Usd = None
    output_usd_per_mtok: _Usd = None
    cached_input_usd_per_mtok: _Usd = None
    default_max_output_tokens: Annotated[
        int | None,
        typer.Option(parser=positive, metavar="N", help="of a request that names no bound"),
    ] = None
    max_output_tokens: Annotated[
        int | None, typer.Option(parser=positive, metavar="N", help="of any request")
    ] = None
    context_window_tokens: Annotated[
        int | None,
        typer.Option(parser=positive, metavar="N", help="input and output together, at most"),
    ] = None
    input_overhead_tokens: Annotated[
        int | None,
        typer.Option(parser=positive, metavar="N", help="what its backends add to each request"),
    ] = None
    output_limit_field: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="max_tokens, max_completion_tokens or none"),
    ] = None
    image_tokens: Annotated[
        int | None, typer.Option(parser=positive, metavar="N", help="what an image counts as")
    ] = None
    audio_tokens: Annotated[
        int | None, typer.Option(parser=positive, metavar="N", help="what a recording counts as")
    ] = None
    file_tokens: Annotated[
        int | None, typer.Option(parser=positive, metavar="N", help="what a file counts as")
    ] = None
    max_tool_calls: Annotated[
        int | None,
        typer.Option(parser=positive, metavar="N", help="calls of hosted tools for one choice"),
    ] = None
    tokenizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="o200k_base or cl100k_base")
    ] = None
    tokenizer_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="in TALLYGATE_TOKENIZERS_DIR of ingress")
    ] = None
    tokenizer_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="of the tokenizer file's content")
    ] = None
    unknown_fields: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="fields that may change the bill: auto, refuse or pass"),
    ] = None


def target(text: str) -> dict[str, Any]:
    """``ID=WEIGHT`` or ``ID``, whose weight is 1. Raises ``ValueError``."""
    backend, _, weight = text.partition("=")
    if not backend:
        raise ValueError(f"{text} names no backend")
    return {"backend": backend, "weight": whole(weight or "1")}


def changed_model(
    name: str,
    route: list[dict[str, Any]] | None,
    options: ModelOptions,
    current: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The model after the options. Raises ``CommandFailed`` for a new one without a route."""
    if current is None and not route:
        raise CommandFailed(
            f"the model {name} is new and has no route",
            "a model needs at least one backend",
            "name one with --backend ID=WEIGHT; `tallygate backends list` shows them",
            Exit.USAGE,
        )
    return written_fields(current or {}) | given(backends=route, **asdict(options))


@command(
    APP,
    "set",
    "tallygate models set echo --backend gpu-1=3 --backend gpu-2",
    "tallygate models set echo --input-usd-per-mtok 0.50 --output-usd-per-mtok 1.50",
    "tallygate models set llama --backend gpu-1 --upstream-model '/models/Llama 3 (8B).gguf'",
)
def change(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="what clients call it")],
    *,
    backend: Annotated[
        list[Any] | None,
        typer.Option(
            parser=target,
            metavar="ID=WEIGHT",
            help="one backend of the route; repeatable, replaces the whole route",
        ),
    ] = None,
    upstream_model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="what the backends of the route call it"),
    ] = None,
    options: ModelOptions,
) -> int:
    """Create or change one; other fields stay."""
    admin = call.admin()
    current = admin.entity("models", name)
    route = backend or (current or {}).get("backends")
    if upstream_model is not None and route:
        backend = [each | {"upstream_model": upstream_model} for each in route]
    body = changed_model(name, backend, options, current)
    written = admin.put_over("models", name, current, body)
    call.output.result(written, f"{name} is at version {written['version']}")
    return 0


@command(APP, "list", "tallygate models list")
def show(call: Call) -> int:
    """List models, their routes and prices."""
    found = call.admin().get("/models")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


def _row(model: dict[str, Any]) -> dict[str, Any]:
    return model | {"route": ",".join(f"{t['backend']}={t['weight']}" for t in model["backends"])}

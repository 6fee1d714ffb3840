"""``tallygate models``: a model's route and price."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from deploy.cli.command import Call, Commands, add_command, add_group, given, positive
from deploy.cli.output import CommandFailed, Exit, table

_COLUMNS = ("id", "route", "input_usd_per_mtok", "output_usd_per_mtok", "default_max_output_tokens")
_FIELDS = (
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "cached_input_usd_per_mtok",
    "default_max_output_tokens",
    "max_output_tokens",
    "image_tokens",
)


def register(commands: Commands) -> None:
    """Add the commands."""
    models = add_group(commands, "models", "models: routes and prices")
    parser = add_command(models, "set", "create or change one; other fields stay", change)
    parser.add_argument("name")
    parser.add_argument(
        "--backend",
        action="append",
        type=target,
        metavar="ID=WEIGHT",
        help="one backend of the route; repeatable, replaces the whole route",
    )
    for price in _FIELDS[:3]:
        parser.add_argument(_option(price), metavar="USD", help="per million tokens")
    for bound in _FIELDS[3:]:
        parser.add_argument(_option(bound), type=positive, metavar="N")
    add_command(models, "list", "list models", show)


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


def target(text: str) -> dict[str, Any]:
    """``ID=WEIGHT`` or ``ID``, whose weight is 1. Raises ``ValueError``."""
    backend, _, weight = text.partition("=")
    if not backend:
        raise ValueError(text)
    return {"backend": backend, "weight": int(weight or "1")}


def changed_model(options: argparse.Namespace, current: Mapping[str, Any] | None) -> dict[str, Any]:
    """The model after the options. Raises ``CommandFailed`` for a new one without a route."""
    if current is None and not options.backend:
        raise CommandFailed(
            f"the model {options.name} is new and has no route",
            "a model needs at least one backend",
            "name one with --backend ID=WEIGHT; `tallygate backends list` shows them",
            Exit.USAGE,
        )
    known = {k: v for k, v in (current or {}).items() if k not in ("id", "version")}
    changes = {field: getattr(options, field) for field in _FIELDS}
    return known | given(backends=options.backend, **changes)


def change(call: Call) -> int:
    options, admin = call.options, call.admin()
    current = admin.entity("models", options.name)
    body = changed_model(options, current)
    written = admin.put_over("models", options.name, current, body)
    call.output.result(written, f"{options.name} is at version {written['version']}")
    return 0


def show(call: Call) -> int:
    found = call.admin().get("/models")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


def _row(model: dict[str, Any]) -> dict[str, Any]:
    return model | {"route": ",".join(f"{t['backend']}={t['weight']}" for t in model["backends"])}

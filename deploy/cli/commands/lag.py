"""``tallygate lag``: how far each worker is behind, per partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.cli.command import Call, Commands, add_command
from deploy.cli.output import table

_COLUMNS = ("group", "topic", "partition", "committed", "end", "lag", "lag_s")


def register(commands: Commands) -> None:
    """Add the command."""
    add_command(commands, "lag", "how far the workers are behind the log", show)


def show(call: Call) -> int:
    found = call.admin().get("/lag")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


def _row(lag: Mapping[str, Any]) -> dict[str, Any]:
    lag_ms = lag["lag_ms"]
    return {**lag, "lag_s": None if lag_ms is None else round(lag_ms / 1_000, 1)}

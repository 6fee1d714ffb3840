"""``tallygate lag``: how far each worker is behind, per partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.cli.command import Call, command, verbs
from deploy.cli.table import table

_COLUMNS = ("group", "topic", "partition", "committed", "end", "lag", "lag_s")

APP = verbs()


@command(APP, "lag", "tallygate lag", "tallygate lag --json")
def show(call: Call) -> int:
    """Say how far the workers are behind the log."""
    found = call.admin().get("/lag")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


def _row(lag: Mapping[str, Any]) -> dict[str, Any]:
    lag_ms = lag["lag_ms"]
    return {**lag, "lag_s": None if lag_ms is None else round(lag_ms / 1_000, 1)}

"""The import contracts of pyproject.toml name everything that they are about."""

from __future__ import annotations

import tomllib
from typing import Any

from tests.support.calls_in_code import ROOT

CONTROL_PLANE = "ingress.admin"
_NOT_COMPARED = {CONTROL_PLANE, *(f"ingress.__{name}__" for name in ("init", "main", "pycache"))}


def _contracts() -> list[dict[str, Any]]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    return found


def _data_plane() -> set[str]:
    """Every module and room of ingress beside the control plane; nobody imports an entry point."""
    rooms = (path.name.removesuffix(".py") for path in (ROOT / "ingress").iterdir())
    return {f"ingress.{room}" for room in rooms if room.isidentifier()} - _NOT_COMPARED


def test_no_room_of_ingress_is_left_out_of_what_admin_is_kept_from() -> None:
    """Neither may import the other, and a new room has to be named in both directions."""
    between = [
        {frozenset(c["source_modules"]), frozenset(c["forbidden_modules"])}
        for c in _contracts()
        if c["type"] == "forbidden"
        and [CONTROL_PLANE] in (c["source_modules"], c["forbidden_modules"])
    ]

    assert between == [{frozenset({CONTROL_PLANE}), frozenset(_data_plane())}] * 2

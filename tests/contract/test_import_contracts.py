"""The import contracts of pyproject.toml name everything that they are about."""

from __future__ import annotations

import ast
import re
import tomllib
from typing import Any

from tests.support.calls_in_code import ROOT, parsed_files

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


_PROCESSES = ("ingress/", "limiter_worker/", "dispatcher/", "accounting/", "schemas/")


def _modules() -> dict[str, str]:
    """Every module of the processes, and its docstring."""
    return {
        path.removesuffix(".py").replace("/", "."): ast.get_docstring(tree) or ""
        for path, tree in parsed_files()
        if path.startswith(_PROCESSES) and not path.endswith("__init__.py")
    }


def test_what_says_that_it_is_pure_is_kept_so() -> None:
    """The word in a module's docstring and the contract are one promise, told twice."""
    (contract,) = (c for c in _contracts() if c["name"] == "Cores are pure")
    kept = {
        module
        for module in _modules()
        if any(f"{module}.".startswith(f"{named}.") for named in contract["source_modules"])
    }
    said = {module for module, text in _modules().items() if re.search(r"\b[Pp]ure\b", text)}

    assert said == kept


def test_all_contracts_between_processes_are_pure() -> None:
    """Whatever stands in ``schemas`` beside the runtime decides and describes, and waits for nothing."""
    said = {module for module, text in _modules().items() if re.search(r"\b[Pp]ure\b", text)}

    assert {m for m in _modules() if re.match(r"schemas\.(?!runtime\.)", m)} <= said

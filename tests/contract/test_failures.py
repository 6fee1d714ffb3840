"""The error tree is drawn once: whoever catches by kind catches everything of that kind."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from schemas import failures
from tests.support.calls_in_code import parsed_files

_PROCESSES = ("ingress/", "limiter_worker/", "dispatcher/", "accounting/", "schemas/")


def test_every_exception_of_the_processes_is_a_failure() -> None:
    """The command line has errors of its own kind, which end a command and nothing else."""
    strays = [
        f"{path}: {node.name}"
        for path, tree in parsed_files()
        if path.startswith(_PROCESSES) and path != "schemas/failures.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name)
        and (base.id.endswith("Error") or base.id in {"Exception", "BaseException"})
    ]

    assert strays == []


def _drawn() -> dict[str, set[str]]:
    """The drawing's names by kind; a name after a colon is a kind of the one before it."""
    kinds: dict[str, set[str]] = {}
    for line in (failures.__doc__ or "").splitlines():
        branch = re.match(r"    [├└]── (\w+)", line)
        if branch:
            kinds[branch[1]] = set()
        elif line.startswith("    │"):
            list(kinds.values())[-1].update(re.findall(r"[A-Z]\w+", line))
    return kinds


def _bases() -> Iterator[tuple[str, str]]:
    """Each class that derives from another of ours, and that other."""
    for path, tree in parsed_files():
        for node in ast.walk(tree) if path.startswith(_PROCESSES) else ():
            if isinstance(node, ast.ClassDef):
                yield from ((node.name, b.id) for b in node.bases if isinstance(b, ast.Name))


def test_the_drawing_shows_every_failure_under_its_kind() -> None:
    """Whoever adds one draws it in ``schemas/failures.py``; what is private to a module is left out."""
    drawn, bases = _drawn(), dict(_bases())
    found: dict[str, set[str]] = {kind: set() for kind in drawn}
    for name, base in bases.items():
        kind = base
        while kind not in drawn and kind in bases:
            kind = bases[kind]
        if kind in drawn and not name.startswith("_"):
            found[kind].add(name)

    assert found == drawn
    assert {name for name, base in bases.items() if base == "Failure"} == set(drawn)

"""The error tree is drawn once: whoever catches by kind catches everything of that kind."""

from __future__ import annotations

import ast

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

"""Finds calls in the source of the packages, so that lists can be held against their use."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("ingress", "limiter_worker", "dispatcher", "accounting", "schemas", "deploy")


@cache
def parsed_files() -> tuple[tuple[str, ast.Module], ...]:
    """Each file of the packages that somebody wrote: path from the root, and its syntax tree."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    paths = [path for path in paths if not path.stem.endswith("_pb2")]
    return tuple((str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in paths)


def method_calls(*names: str) -> Iterator[tuple[str, ast.Call, str]]:
    """Calls ``<anything>.<name>(...)``: file, call, name."""
    for path, tree in parsed_files():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in names:
                yield path, node, node.func.attr

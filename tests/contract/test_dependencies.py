"""Dependencies are true: what is declared is imported, and what is imported is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.support.calls_in_code import PACKAGES, ROOT

_TOOLS = {
    "coverage",
    "editables",
    "grpcio-tools",
    "hatchling",
    "import-linter",
    "mypy",
    "oidc-provider-mock",
    "pre-commit",
    "pytest-timeout",
    "ruff",
    "types-grpcio",
    "types-grpcio-health-checking",
    "types-grpcio-reflection",
    "types-protobuf",
    "types-psutil",
    "types-pyyaml",
    "uv",
}
"""Of the development group: what is run and not imported."""
_OF_OTHER_PYTHONS = ROOT / "tests" / "foreign" / "programs"
"""Run in environments of their own, with the packages that `tests/foreign/packages.py` pins."""


def _imported(folders: Iterable[str]) -> set[str]:
    """Distributions that the folders' files import by name."""
    known = packages_distributions()
    modules = {
        module.partition(".")[0]
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if path.parent != _OF_OTHER_PYTHONS
        for module in _modules(path)
    }
    foreign = modules - sys.stdlib_module_names - {*PACKAGES, "tests"}
    return {each for module in foreign for each in _distributions(known[module])}


def _distributions(found: Iterable[str]) -> set[str]:
    """Several where they share a namespace: those that are declared, since others only came along with a package."""
    several = set(map(_normal, found))
    return several & (_declared("run") | _declared("dev")) or several


def _modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def _declared(group: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = {"run": project["project"]["dependencies"], **project["dependency-groups"]}
    return {_normal(re.split(r"[<>=~!\[; ]", line)[0]) for line in groups[group]}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_the_product_imports_is_declared_and_nothing_else_is() -> None:
    """What only comes along with another package may leave with it."""
    assert _imported(PACKAGES) == _declared("run")


def test_what_the_tests_import_is_declared_and_nothing_else_is() -> None:
    """Beside what the product has anyway, and beside the tools."""
    assert _imported(["tests"]) - _declared("run") == _declared("dev") - _TOOLS


def test_everything_that_is_declared_is_pinned() -> None:
    """A lock that was not made anew would install something else."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))

    assert (_declared("run") | _declared("dev")) - pinned == set()

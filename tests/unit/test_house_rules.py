"""House rules that are tests and not prose: sizes, what only the shell may do, what nobody may do."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.calls_in_code import PACKAGES, ROOT, parsed_files

_FILE_LINES_MAX = 400
_FUNCTION_LINES_MAX = 70
_SHELL = {
    "os.environ": {
        "schemas/runtime/process/settings.py",
        "dispatcher/settings.py",
        "deploy/embedded/up.py",
        "deploy/cli/backend_check.py",
        "deploy/cli/commands/bench.py",
        "deploy/cli/commands/topics.py",
        "ingress/grpc/server.py",
        "deploy/docker/ready.py",
    },
    "time.time": {"deploy/embedded/example_backend.py"},
    "time.time_ns": {"schemas/runtime/process/clock.py"},
    "datetime.now": set[str](),
    "uuid.uuid4": set[str](),
    "os.urandom": {"schemas/runtime/process/clock.py"},
}
"""What reads the world, and the only files that may. Everything else is handed the values."""


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)):
        return f"{owner}.{node.attr}"
    return None


def _users_of(name: str) -> Iterator[str]:
    """Files that say ``name``, also behind a prefix or imported by its last part."""
    module, _, last = name.rpartition(".")
    for path, tree in parsed_files():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                uses = node.module == module and last in {alias.name for alias in node.names}
            else:
                uses = f".{_dotted(node)}".endswith(f".{name}")
            if uses:
                yield path


def test_no_file_is_too_long() -> None:
    """One idea each; what does not fit is two."""
    lengths = {path: (ROOT / path).read_text().count("\n") for path, _ in parsed_files()}

    assert {path: n for path, n in lengths.items() if n > _FILE_LINES_MAX} == {}


def test_no_test_file_is_too_long() -> None:
    """Tests are read as documentation, one subject a file."""
    lengths = {
        str(path.relative_to(ROOT)): path.read_text().count("\n")
        for path in (ROOT / "tests").rglob("*.py")
    }

    assert {path: n for path, n in lengths.items() if n > _FILE_LINES_MAX} == {}


def test_no_function_is_too_long() -> None:
    """Docstring included."""
    too_long = {
        f"{path}:{node.name}": node.end_lineno - node.lineno + 1
        for path, tree in parsed_files()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > _FUNCTION_LINES_MAX
    }

    assert too_long == {}


@pytest.mark.parametrize("name", _SHELL)
def test_the_world_is_read_in_few_places(name: str) -> None:
    """Time, randomness and the environment are arguments everywhere else."""
    assert set(_users_of(name)) <= _SHELL[name]


def test_package_files_are_empty() -> None:
    """Importing a package has no effect."""
    packages = [path for path, _ in parsed_files() if path.endswith("__init__.py")]

    assert len(packages) >= len(PACKAGES)
    assert [path for path in packages if (ROOT / path).read_text()] == []


def test_every_module_postpones_annotations_and_has_a_docstring() -> None:
    """Its first sentence says what it decides or touches."""
    for path, tree in parsed_files():
        if path.endswith("__init__.py"):
            continue
        futures = [
            n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"
        ]
        assert ast.get_docstring(tree), path
        assert [alias.name for n in futures for alias in n.names] == ["annotations"], path


def test_nobody_pickles() -> None:
    """Records are Avro, documents are JSON."""
    imported = {
        (path, alias.name)
        for path, tree in parsed_files()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if "pickle" in alias.name or "pickle" in (getattr(node, "module", None) or "")
    }

    assert imported == set()


@pytest.mark.parametrize("mark", ["TO" + "DO", "FIX" + "ME", "X" * 3])
def test_nothing_is_left_to_be_done(mark: str) -> None:
    """Neither in Python nor in Lua nor in schemas."""
    files = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".lua", ".avsc", ".json", ".yaml", ".toml"}
    ]

    assert len(files) > len(PACKAGES)
    assert [str(path.relative_to(ROOT)) for path in files if mark in path.read_text()] == []

"""What the documents refer to exists: files and the headings in them."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.calls_in_code import ROOT, parsed_files

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def _documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\n") if name and (ROOT / name).exists()]


def _anchors(document: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = _HEADING.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def _is_broken(document: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return False
    name, _, anchor = link.partition("#")
    target = (document.parent / name).resolve() if name else document
    return not target.exists() or bool(anchor and anchor not in _anchors(target))


@pytest.mark.parametrize("document", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    """A moved file takes the links to it along."""
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))

    assert [link for link in _LINK.findall(text) if _is_broken(document, link)] == []


def _decisions() -> list[Path]:
    return sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))


def test_decisions_are_numbered_once_and_indexed_in_order() -> None:
    """The index names each by its number and title; work in parallel takes numbers ahead, so there may be gaps."""
    index = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d{4})\]\((\S+)\) \| (.*) \|$", index, re.MULTILINE)

    numbers = [int(number) for number, _, _ in rows]
    assert numbers == sorted(set(numbers))
    assert [name for _, name, _ in rows] == [path.name for path in _decisions()]
    for (number, _, title), path in zip(rows, _decisions(), strict=True):
        assert path.read_text(encoding="utf-8").startswith(f"# {number}: {title}\n"), path.name


@pytest.mark.parametrize("path", _decisions(), ids=lambda path: path.stem)
def test_a_decision_says_why_what_and_what_follows(path: Path) -> None:
    """In this order; figures come last, where there are any."""
    sections = re.findall(r"^## (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)

    assert sections[:3] == ["Context", "Decision", "Consequences"]
    assert sections[3:] in ([], ["Figures"])


_CHECKS = ROOT / "docs" / "security-checks.md"


def _named_tests(row: str) -> list[str]:
    return re.findall(r"`(tests/[^`]*::[^`]*)`", row)


def _is_there(test: str) -> bool:
    """Whether a file has a function of this name that pytest collects."""
    path, _, name = test.partition("::")
    if not (ROOT / path).is_file() or not name.startswith("test_"):
        return False
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return name in {function.name for function in functions}


def test_every_security_check_names_tests_that_are_there() -> None:
    """Each row of the checklist once and in order; a test that was renamed takes its row along."""
    rows = re.findall(r"^\| (S\d+) \|(.*)$", _CHECKS.read_text(encoding="utf-8"), re.MULTILINE)

    assert [number for number, _ in rows] == [f"S{number}" for number in range(1, 27)]
    assert [number for number, row in rows if not _named_tests(row)] == []
    assert [test for _, row in rows for test in _named_tests(row) if not _is_there(test)] == []


def _tested_modules() -> set[str]:
    """Paths of the modules that a test is named after or imports."""
    names = {path.stem.removeprefix("test_") for path in (ROOT / "tests").rglob("test_*.py")}
    imported: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return {
        path
        for path, _ in parsed_files()
        if Path(path).stem in names or path.removesuffix(".py").replace("/", ".") in imported
    }


def test_it_is_known_where_each_module_is_tested() -> None:
    """By a test of its name, one that imports it, or a line in the map, which names a test that is there."""
    text = (ROOT / "tests" / "map.md").read_text(encoding="utf-8")
    mapped = dict(re.findall(r"^\| `(\S+)` \| `(\S+)` \|$", text, re.MULTILINE))
    modules = {
        path for path, _ in parsed_files() if not path.endswith(("__init__.py", "__main__.py"))
    }

    assert modules - _tested_modules() - set(mapped) == set()
    assert set(mapped) - modules == set()
    assert [test for test in mapped.values() if not (ROOT / test).exists()] == []

"""S23: what is installed is what was locked, by its hash, and nothing of it runs before it is imported."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import pytest

from tests.support.calls_in_code import PACKAGES, ROOT

_LOCKS: Final = ("requirements.lock", "requirements-runtime.lock")
_RUN_AT_START: Final = {"sitecustomize.py", "usercustomize.py"}


def _entries(lock: str) -> list[str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return [
        entry
        for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE)
        if entry and not entry.startswith("#")
    ]


def _is_run_at_start(name: str) -> bool:
    """By any Python that finds it, without an import."""
    return name.endswith(".pth") or name in _RUN_AT_START


@pytest.mark.parametrize("lock", _LOCKS)
def test_every_line_of_a_lock_is_a_version_with_hashes(lock: str) -> None:
    """No address, no folder, no other index, no version that may become another one."""
    entries = _entries(lock)

    assert len(entries) > 40
    for entry in entries:
        assert re.fullmatch(
            r"[a-z0-9-]+==[^\s;]+( ; [^\\\n]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+",
            entry,
        ), entry


def test_no_package_of_the_image_runs_at_every_start_of_python() -> None:
    """The way in which a stolen release of another gateway began."""
    names = [entry.partition("==")[0] for entry in _entries("requirements-runtime.lock")]
    looked_at, found = 0, []
    for name in names:
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:  # of another system, by its marker
            continue
        looked_at += 1
        found += [f"{name}: {file}" for file in files if _is_run_at_start(file.name)]

    assert looked_at > 40
    assert found == []


def test_we_ship_nothing_that_runs_at_every_start_of_python() -> None:
    """Neither in a package nor beside them."""
    folders = [ROOT, *(each for package in PACKAGES for each in (ROOT / package).rglob("*/"))]
    names = {path for folder in folders for path in Path(folder).iterdir() if path.is_file()}

    assert len(names) > 100
    assert [str(path) for path in names if _is_run_at_start(path.name)] == []

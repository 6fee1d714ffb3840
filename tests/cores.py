"""The files of the pure cores, as the contract "Cores are pure" of pyproject.toml lists their modules.

``python -m tests.cores`` prints them as coverage wants them, so that ``make coverage`` has no list of its own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRACT = "Cores are pure"


def core_files() -> Iterator[Path]:
    """Paths from the root; a package gives those of all its modules."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (modules,) = (each["source_modules"] for each in contracts if each["name"] == CONTRACT)
    for module in modules:
        place = ROOT / module.replace(".", "/")
        found = place.rglob("*.py") if place.is_dir() else (place.with_suffix(".py"),)
        yield from (path.relative_to(ROOT) for path in found)


if __name__ == "__main__":
    print(",".join(map(str, core_files())))

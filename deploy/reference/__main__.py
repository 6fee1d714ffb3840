"""Writes the generated references into a folder: ``python -m deploy.reference [FOLDER]``; into that of the repository, with
the files of the chart and ``llms.txt``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.reference.chart_facts import CHART_FILES
from deploy.reference.llms_pages import llms_of_repository
from deploy.reference.pages import PAGES, PUBLISHED
from schemas.runtime.process.published import FOLDER as PUBLISHED_FOLDER

FOLDER = Path("docs/reference")


def write(folder: Path, pages: Mapping[str, Callable[[], str]]) -> None:
    """Make every page anew; files that no page makes any more are left to whoever reads the diff."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER, PAGES)
    write(PUBLISHED_FOLDER, PUBLISHED)
    if len(sys.argv) == 1:
        write(Path(), {**CHART_FILES, "llms.txt": llms_of_repository})

"""What the documents refer to exists: files and the headings in them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.calls_in_code import ROOT

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

"""Each recipe of docs/replay.md is shown by a test or a script that is there."""

from __future__ import annotations

import re

from tests.support.calls_in_code import ROOT


def test_every_recipe_names_what_shows_it() -> None:
    """A script that was renamed takes its recipe along."""
    page = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*) \| (.*) \| `(tests/[^`]*)` \|$", page, re.MULTILINE)

    assert len(rows) >= 9
    assert [test for _, _, test in rows if not (ROOT / test).is_file()] == []

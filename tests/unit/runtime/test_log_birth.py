"""When a log is told to be another one."""

from __future__ import annotations

import pytest

from schemas.config_state import Birth
from schemas.runtime.kafka.log_birth import birth_after
from schemas.topics import CONFIG, OUTCOMES, REQUESTS

KNOWN = Birth("c", "o")


@pytest.mark.parametrize(
    ("known", "made", "birth"),
    [
        (None, {CONFIG, OUTCOMES, REQUESTS}, Birth("new", "new")),
        (None, (), Birth("new", "new")),
        (KNOWN, (), None),
        (KNOWN, {REQUESTS}, None),
        (KNOWN, {OUTCOMES}, Birth("c", "new")),
        (None, {CONFIG}, Birth("new", "")),
    ],
    ids=["first", "of a version before", "stands", "others made", "outcomes made", "config made"],
)
def test_a_birth_is_written_once_for_each_time_that_topics_were_made(
    known: Birth | None, made: set[str], birth: Birth | None
) -> None:
    """A topic that stands keeps its id."""
    assert birth_after(known, made, "new") == birth

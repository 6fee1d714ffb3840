"""What is kept of a job beside it."""

from __future__ import annotations

import pytest

from schemas.job_facts import JobFacts, read_facts


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (JobFacts("echo", 7), '["echo",7]'),
        (JobFacts("echo", 7, "ada"), '["echo",7,"ada"]'),
        (JobFacts("echo", 7, None, "https://a/"), '["echo",7,null,"https://a/"]'),
    ],
)
def test_facts_are_read_as_they_were_written(facts: JobFacts, text: str) -> None:
    """What is not stated at the end is left out."""
    assert facts.encoded() == text
    assert read_facts(text) == facts


@pytest.mark.parametrize("text", ["", "{}", '["echo"]', "[1,2]"])
def test_what_is_none_of_ours_has_no_facts(text: str) -> None:
    """Whatever stands there."""
    assert read_facts(text) is None

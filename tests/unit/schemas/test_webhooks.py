"""Where an organization may be told of what happened."""

from __future__ import annotations

import pytest

from schemas.config_references import Problem
from schemas.config_state import parse_entity
from schemas.entities import Organization
from schemas.webhooks import Webhooks, is_covered, webhook_problem


def test_an_organization_says_where_it_is_told() -> None:
    """With its address, what its jobs may name, and what it wants to hear of."""
    body = b"""{"webhooks": {"url": "https://a.example/hook", "events": ["job"],
                             "allowed": ["https://b.example/in"], "secrets": [2, 1]}}"""

    org = parse_entity("organization", body)

    assert isinstance(org, Organization)
    assert org.webhooks is not None
    assert org.webhooks.tells("job")
    assert not org.webhooks.tells("threshold")


@pytest.mark.parametrize(
    "fields",
    [
        '{"url": "ftp://a.example/"}',
        '{"url": "https://user:secret@a.example/"}',
        '{"url": "https://a.example/in/../admin"}',
        '{"allowed": ["https://a.example/%2E%2e/admin"]}',
        '{"url": "https://a.example/hook", "events": ["nonsense"]}',
        '{"url": "https://a.example/hook", "secrets": []}',
        '{"url": "https://a.example/hook", "secrets": [1, 1]}',
        '{"url": "https://a.example/hook", "secrets": [3, 2, 1]}',
        '{"url": "https://a.example/hook", "secret": "whsec_abc"}',
    ],
)
def test_what_cannot_be_called_or_is_unknown_is_refused(fields: str) -> None:
    """A typo is an error and no silence; a secret has no place in the configuration."""
    assert isinstance(parse_entity("organization", f'{{"webhooks": {fields}}}'), Problem)


def test_without_an_address_nothing_is_told_but_what_names_one() -> None:
    """An allow-list alone tells of nothing by itself."""
    assert not Webhooks(allowed=("https://a.example/",)).tells("job")


@pytest.mark.parametrize(
    ("url", "allowed", "covered"),
    [
        ("https://a.example/in/1", "https://a.example/in", True),
        ("https://a.example/in", "https://a.example/in", True),
        ("https://a.example/in?run=1", "https://a.example/in", True),
        ("https://a.example/inside", "https://a.example/in", False),
        ("https://a.example/x", "https://a.example/", True),
        ("https://a.example", "https://a.example/", True),
        ("https://A.example:443/x", "https://a.example", True),
        ("https://a.example:8443/x", "https://a.example/", False),
        ("http://a.example/x", "https://a.example/", False),
        ("https://a.example.evil.example/x", "https://a.example", False),
        ("https://b.example/x", "https://a.example/", False),
    ],
)
def test_a_job_may_name_what_begins_with_an_allowed_address(
    url: str, allowed: str, covered: bool
) -> None:
    """At the end of a segment; a host that merely begins alike is another host."""
    assert is_covered(url, (allowed,)) is covered


@pytest.mark.parametrize("path", ["/a/../b", "/..", "/a/%2e%2E/b", "/./a"])
def test_an_address_that_climbs_out_of_its_path_is_refused(path: str) -> None:
    """What the allow-list compared would not be what the receiver reads."""
    assert webhook_problem(f"https://a.example{path}") is not None

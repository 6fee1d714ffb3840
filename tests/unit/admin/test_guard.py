"""Who may speak to the admin API, and whom a writer waits for."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from ingress.admin.fleet.propagation import has_reached, read_reports
from ingress.admin.http.guard import is_local

NOW_MS = 1_000_000


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"host": "127.0.0.1:8443"}, True),
        ({"host": "localhost:8443"}, True),
        ({"host": "[::1]:8443"}, True),
        ({"host": "127.0.0.1:8443", "origin": "http://127.0.0.1:8443"}, True),
        ({"host": "rebound.example:8443"}, False),
        ({"host": "127.0.0.1:8443", "origin": "https://evil.example"}, False),
        ({"host": "127.0.0.1:8443", "origin": "null"}, False),
        ({}, False),
    ],
)
def test_only_this_machine_is_let_in(headers: dict[str, str], expected: bool) -> None:
    """Names that resolve to loopback, and other sites in a browser, are kept out."""
    assert is_local(Headers(headers)) is expected


def test_an_ingress_that_is_behind_is_waited_for() -> None:
    """Every live instance of the role has to be there."""
    instances = read_reports(
        {"ingress-0": f"ingress 7 {NOW_MS}", "ingress-1": f"ingress 6 {NOW_MS}"}, NOW_MS
    )

    assert not has_reached(instances, "ingress", 7)
    assert has_reached(instances, "ingress", 6)


def test_a_line_that_is_no_report_hides_no_other() -> None:
    """Whatever stands in the hash."""
    junk = {"a": "", "b": "ingress x 1", "c": "ingress 1", "d": "ingress 1 2 3"}
    found = read_reports({**junk, "e": f"ingress 7 {NOW_MS}"}, NOW_MS)

    assert [instance.name for instance in found] == ["e"]


def test_ended_instances_and_other_roles_are_not_waited_for() -> None:
    """A process that stopped reporting does not block administration."""
    instances = read_reports(
        {"ingress-0": f"ingress 1 {NOW_MS - 10_001}", "dispatcher-0": f"dispatcher 1 {NOW_MS}"},
        NOW_MS,
    )

    assert has_reached(instances, "ingress", 7)

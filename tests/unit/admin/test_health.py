"""Backends' health, from the reports of dispatchers."""

from __future__ import annotations

import json

from ingress.admin.fleet.health import read_reports

NOW_MS = 1_000_000


def report(at_ms: int, state: str = "healthy") -> str:
    return json.dumps({"state": state, "since_ms": 1, "inflight": 2, "at_ms": at_ms})


def test_every_dispatcher_speaks_for_itself() -> None:
    """One may see a backend that another cannot reach."""
    found = read_reports({"d-1|a": report(NOW_MS, "open"), "d-0|a": report(NOW_MS)}, NOW_MS)

    assert [(r["instance"], r["state"], r["inflight"]) for r in found["a"]] == [
        ("d-0", "healthy", 2),
        ("d-1", "open", 2),
    ]


def test_old_and_unreadable_reports_are_left_out() -> None:
    """A dispatcher that ended says nothing about now."""
    reports = {"d-0|a": report(NOW_MS - 60_000), "d-1|a": "{", "d-2|a": '{"state": 1}'}

    assert read_reports(reports, NOW_MS) == {}

"""Which audit events a query asks for, and which of them are kept."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import QueryParams

from ingress.admin.http.refusal import Refusal
from ingress.admin.log.audit_routes import AuditQuery, Newest, parse_query, view
from schemas.events import AuditRecorded
from tests.support.events import NOW_MS, REQUEST_ID

HOUR_MS = 3_600_000


def event(at_ms: int = NOW_MS, audit_id: str = "a", **more: Any) -> AuditRecorded:
    fields: dict[str, Any] = {"org": "acme", "action": "refused", "actor": "key_a", "detail": "{}"}
    return AuditRecorded(audit_id=audit_id, at_ms=at_ms, **(fields | more))


def parsed(**params: str) -> AuditQuery | Refusal:
    return parse_query(QueryParams({n.removesuffix("_"): v for n, v in params.items()}), NOW_MS)


def test_the_default_is_the_last_day() -> None:
    """Up to now, with room for clocks that differ."""
    query = parsed()

    assert isinstance(query, AuditQuery)
    assert query.wants(event(NOW_MS))
    assert query.wants(event(NOW_MS - 23 * HOUR_MS))
    assert not query.wants(event(NOW_MS - 25 * HOUR_MS))


def test_a_request_is_looked_for_from_the_time_in_its_id() -> None:
    """However long ago that was."""
    query = parse_query(QueryParams({"request_id": REQUEST_ID}), NOW_MS + 90 * 24 * HOUR_MS)

    assert isinstance(query, AuditQuery)
    assert query.wants(event(NOW_MS, request_id=REQUEST_ID))
    assert not query.wants(event(NOW_MS, request_id="another"))


def test_an_organization_sees_its_own_events_only() -> None:
    """And the times asked for are half open."""
    query = parsed(org="acme", from_="2023-11-14T22:00:00Z", to="2023-11-14T22:13:20Z")

    assert isinstance(query, AuditQuery)
    assert query.wants(event(NOW_MS - 1))
    assert not query.wants(event(NOW_MS))
    assert not query.wants(event(NOW_MS - 1, org="other"))


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"request_id": "req_1"},
        {"from_": "yesterday"},
        {"from_": "2023-11-15", "to": "2023-11-14"},
        {"organization": "acme"},
    ],
    ids=str,
)
def test_what_is_no_query_is_refused(params: dict[str, str]) -> None:
    """A mistyped parameter does not silently list everything."""
    assert isinstance(parsed(**params), Refusal)


def test_the_newest_are_kept_newest_first_and_once() -> None:
    """An event that was written twice has one id."""
    newest = Newest(2)
    for at_ms, audit_id in ((3, "c"), (1, "a"), (2, "b"), (3, "c")):
        newest.add(event(at_ms, audit_id))

    assert [kept.audit_id for kept in newest.events()] == ["c", "b"]


@pytest.mark.parametrize(("text", "shown"), [('{"a": 1}', {"a": 1}), ("no json", "no json")])
def test_the_detail_is_shown_as_json_where_it_is(text: str, shown: object) -> None:
    """Whatever stands in the topic, the look-up answers."""
    assert view(event(detail=text))["detail"] == shown

"""Tables, decoded records and findings as they are printed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from deploy.cli.table import csv_text, table
from deploy.cli.tail import readable
from schemas.codec import encode
from schemas.events import AuditRecorded, RecordRef, RequestAdmitted

EVENT = AuditRecorded(
    audit_id="a1", org="acme", action="admin.put", actor="admin", at_ms=1, detail="{}"
)


def record(value: bytes | None) -> SimpleNamespace:
    return SimpleNamespace(
        topic="audit.router", partition=0, offset=7, timestamp=1, key=b"acme", value=value
    )


def test_columns_are_aligned_and_numbers_stand_right() -> None:
    """Absent values are shown as such."""
    rows: list[dict[str, Any]] = [{"id": "a", "rps": 5}, {"id": "longer", "rps": None}]

    assert table(("id", "rps"), rows).plain().splitlines() == [
        "id      rps",
        "a         5",
        "longer    -",
    ]


def test_a_table_without_rows_still_names_its_columns() -> None:
    """Nothing found is not an error."""
    assert table(("id", "rps"), []).plain() == "id  rps"


def test_csv_quotes_what_contains_a_comma() -> None:
    """Names come from users."""
    assert csv_text(("name",), [{"name": "a,b"}]).splitlines() == ["name", '"a,b"']


def test_a_record_is_shown_with_its_place_and_type() -> None:
    """What `topics tail` prints."""
    line = readable(record(encode(EVENT)))

    assert (line["offset"], line["key"], line["type"]) == (7, "acme", "AuditRecorded")
    assert line["value"]["action"] == "admin.put"


def test_a_record_inside_a_record_is_decoded_too() -> None:
    """What was accepted is what an operator looks for in a dispatch record."""
    admitted = RequestAdmitted(
        request_id="r1",
        org="acme",
        accepted=encode(EVENT),
        accepted_ref=RecordRef(topic="t", partition=0, offset=1),
        admitted_at_ms=1,
        holds=[],
        rates=[],
        config_offset=0,
    )

    line = readable(record(encode(admitted)))

    assert line["value"]["accepted"]["value"]["audit_id"] == "a1"


def test_a_malformed_record_is_shown_and_marked() -> None:
    """Poison must be visible, not fatal."""
    line = readable(record(b"\xff\xfe"))

    assert "malformed" in line
    assert line["value"] == "//4="

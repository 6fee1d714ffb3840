"""What processes report of themselves is read as it was written, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ledger.owners import instance_of, owner_of
from schemas.reports import (
    BackendReport,
    ConfigReport,
    Excess,
    LaneReport,
    backend_field,
    read_backend_field,
    read_backend_report,
    read_config_report,
)


@given(st.integers(-1, 10**12), st.integers(0, 10**14))
def test_a_report_of_the_configuration_is_read_as_it_was_written(offset: int, at_ms: int) -> None:
    """Also before the first entry is in force."""
    report = ConfigReport("limiter_worker", offset, at_ms)

    assert report.line() == f"limiter_worker {offset} {at_ms}"
    assert read_config_report(report.line()) == report


@pytest.mark.parametrize(
    "line",
    ["", "ingress 3", "ingress x 5", "ingress 3 5 7", "ingress 3 " + "9" * 400, "ingress 3 -1"],
)
def test_a_line_that_is_no_report_tells_nothing(line: str) -> None:
    """Its writer counts as one that never reported."""
    assert read_config_report(line) is None


def test_a_report_of_a_backend_is_read_as_it_was_written() -> None:
    """The bytes that stand in the store, and the field that they stand under."""
    report = BackendReport(
        state="open",
        since_ms=5,
        inflight=2,
        limit=8,
        open_models=("echo",),
        queued={"echo": 1},
        excess={"echo": Excess(700, 3)},
        is_alive=False,
        breaker="half_open",
        lanes={"echo": LaneReport("open", 2, 8)},
        at_ms=9,
    )

    assert report.line() == (
        b'{"state":"open","since_ms":5,"inflight":2,"limit":8,"open_models":["echo"],'
        b'"queued":{"echo":1},"excess":{"echo":[700,3]},"is_alive":false,"breaker":"half_open",'
        b'"lanes":{"echo":["open",2,8]},"lacks_key":false,"probe":"","at_ms":9}'
    )
    assert read_backend_report(report.line().decode()) == report
    assert read_backend_field(backend_field("dispatcher-0", "a|b")) == ("dispatcher-0", "a|b")


@pytest.mark.parametrize("line", ["", "{", "[]", '{"state":1,"since_ms":0,"inflight":0,"at_ms":0}'])
def test_what_is_no_report_of_a_backend_is_left_out(line: str) -> None:
    """It says neither that the backend is well nor that it is not."""
    assert read_backend_report(line) is None


def test_an_owner_names_the_process_that_is_told_of_a_cancellation() -> None:
    """Two claims of one process are two owners."""
    first, second = owner_of("dispatcher-0", b"\x01"), owner_of("dispatcher-0", b"\x02")

    assert first != second
    assert instance_of(first) == instance_of(second) == "dispatcher-0"

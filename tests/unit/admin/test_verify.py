"""The comparison behind `ledger verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from ingress.admin.finance.checkpoint import DAY_MS, open_checkpoint
from ingress.admin.finance.verify import Difference, OrgTables, compare, report, tables_of
from schemas.events import RecordRef, UsageRecorded

BALANCE = "b:org:acme:month:2026-11"
LINE = UsageRecorded(
    usage_id="r1:1:0",
    request_id="r1",
    org="acme",
    key_id="key_1",
    attempt=1,
    revision=0,
    route="chat",
    model="m",
    backend="a",
    status="succeeded",
    started_at_ms=DAY_MS + 90,
    finished_at_ms=DAY_MS + 100,
    input_tokens=7,
    output_tokens=5,
    cached_tokens=2,
    reasoning_tokens=1,
    estimated=False,
    price_version="m@1",
    cost_nano_usd=12_000,
    outcome=RecordRef(topic="inference.outcomes.v1", partition=0, offset=0),
)
USAGE = {
    "requests": 1,
    "attempts": 1,
    "input_tokens": 7,
    "output_tokens": 5,
    "cached_tokens": 2,
    "reasoning_tokens": 1,
    "cost_nano_usd": 12_000,
}
SETTLED = {BALANCE: {"settled": 12_000}}
TABLES = {"acme": OrgTables(SETTLED, SETTLED, USAGE)}


@dataclass
class Folded:
    sums: dict[str, dict[str, int]]


def folded(*lines: UsageRecorded) -> Folded:
    """What verification makes of a usage log of these lines."""
    with TemporaryDirectory() as folder, open_checkpoint(Path(folder), DAY_MS) as checkpoint:
        for line in lines:
            checkpoint.add(line)
        return Folded(checkpoint.sums())


def test_equal_sums_have_no_difference() -> None:
    """Balances, totals, tables and log agree."""
    assert compare(TABLES, folded(LINE).sums) == []


def test_a_line_that_was_written_twice_counts_once() -> None:
    """The log is written at least once; its ids make it exactly once."""
    assert compare(TABLES, folded(LINE, LINE).sums) == []


def test_one_missing_nano_usd_is_found() -> None:
    """The difference is exact, and says what is compared."""
    short = msgspec.structs.replace(LINE, cost_nano_usd=11_999)

    assert compare(TABLES, folded(short).sums) == [
        Difference("acme", "usage", "cost_nano_usd", 12_000, 11_999)
    ]


def test_a_balance_that_the_log_did_not_book_is_found() -> None:
    """What a call booked must be booked from the log as well."""
    tables = {"acme": OrgTables(SETTLED, {}, USAGE)}

    assert compare(tables, folded(LINE).sums) == [Difference("acme", BALANCE, "settled", 12_000, 0)]


@pytest.mark.parametrize("name", ["settled", "over", "late", "reserved"])
def test_a_field_of_a_balance_that_was_changed_by_hand_is_named(name: str) -> None:
    """Each has something that speaks for it; nothing of that is a snapshot."""
    fields = {"settled": 12_000, "over": 3, "late": 4}
    honest = fields | {"reserved": 50}
    tables = OrgTables(
        {BALANCE: honest | {name: honest[name] + 7}}, {BALANCE: fields}, USAGE, {BALANCE: 50}
    )

    assert compare({"acme": tables}, folded(LINE).sums) == [
        Difference("acme", BALANCE, name, honest[name] + 7, honest[name])
    ]


def test_what_is_held_speaks_for_balances_that_are_gone() -> None:
    """An open attempt whose balance was deleted is a difference."""
    tables = OrgTables({}, {}, USAGE, {BALANCE: 50})

    assert compare({"acme": tables}, folded(LINE).sums) == [
        Difference("acme", BALANCE, "reserved", 0, 50)
    ]


def test_what_is_reserved_is_not_judged_while_holds_change() -> None:
    """It cannot be read at one instant with them."""
    tables = OrgTables({BALANCE: {"settled": 12_000, "reserved": 9}}, SETTLED, USAGE)

    assert compare({"acme": tables}, folded(LINE).sums) == []


def test_an_organization_that_only_the_log_knows_is_found() -> None:
    """A ledger that lost an organization does not pass."""
    found = compare({}, folded(LINE).sums)

    assert {(d.what, d.field) for d in found} == {("usage", measure) for measure in USAGE}
    assert all(d.ledger == 0 for d in found)


def test_a_correction_moves_amounts_and_no_counts() -> None:
    """A revision is no new request."""
    correction = msgspec.structs.replace(
        LINE, usage_id="r1:1:1", revision=1, output_tokens=-2, cost_nano_usd=-3_000
    )

    sums = folded(LINE, correction).sums["acme"]

    assert (sums["requests"], sums["attempts"]) == (1, 1)
    assert (sums["output_tokens"], sums["cost_nano_usd"]) == (3, 9_000)


def test_an_attempt_without_a_price_is_counted_as_such() -> None:
    """Unknown cost is not a cost of zero."""
    unpriced = msgspec.structs.replace(LINE, cost_nano_usd=None)

    assert folded(unpriced).sums["acme"]["unpriced"] == 1


def test_lines_older_than_the_tables_are_left_out() -> None:
    """Tables leave the store after forty days; the log stays longer."""
    assert folded(msgspec.structs.replace(LINE, finished_at_ms=DAY_MS - 1)).sums == {}


def test_differences_of_opposite_sign_do_not_cancel() -> None:
    """The verdict is 0 only when every pair agrees."""
    assert (
        report([Difference("a", "x", "", 5, 3), Difference("a", "y", "", 3, 5)])["difference"] == 4
    )


def test_tables_are_recognised_by_their_keys() -> None:
    """A total without a balance is looked at too, and old hours are not."""
    names = [
        "{3}|a/b|b:org:month:2026-11",
        "{3}|a/b|t:key:k:day:2026-11-21",
        "{3}|a/b|u:2026-11-21T12",
        "{3}|a/b|u:2026-01-01T00",
        "{3}|a/b|a:some-request",
    ]

    found = tables_of(names, oldest_hour="2026-10-13T00")["a/b"]

    assert found.balances == ("b:key:k:day:2026-11-21", "b:org:month:2026-11")
    assert found.hours == ("2026-11-21T12",)

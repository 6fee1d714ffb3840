"""The comparison behind `ledger verify`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from ingress.admin.finance.checkpoint import DAY_MS, Hours, open_checkpoint
from ingress.admin.finance.hour_sums import SUMS, sums_of_line
from ingress.admin.finance.verify import (
    Difference,
    OrgKeys,
    OrgTables,
    UnderWay,
    balance_differences,
    compare,
    suspects,
    tables_of,
)
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
HOUR = "1970-01-02T00"
USAGE = dict(zip(SUMS, sums_of_line(LINE), strict=True))
FIELDS = {"settled": 12_000}
SETTLED = {BALANCE: FIELDS}
TABLES = OrgTables(SETTLED, SETTLED, {HOUR: USAGE})


def folded(*lines: UsageRecorded) -> Hours:
    """What verification makes of a usage log of these lines."""
    with TemporaryDirectory() as folder, open_checkpoint(Path(folder), DAY_MS) as checkpoint:
        for line in lines:
            checkpoint.add(line)
        return checkpoint.sums(["acme"])["acme"]


def test_equal_sums_have_no_difference() -> None:
    """Balances, totals, tables and log agree."""
    assert compare("acme", TABLES, folded(LINE)) == []


def test_a_line_that_was_written_twice_counts_once() -> None:
    """The log is written at least once; its ids make it exactly once."""
    assert compare("acme", TABLES, folded(LINE, LINE)) == []


def test_one_missing_nano_usd_is_found() -> None:
    """The difference is exact, and says which hour and what of it; the row it stands in differs as well."""
    short = msgspec.structs.replace(LINE, cost_nano_usd=11_999)

    assert compare("acme", TABLES, folded(short)) == [
        Difference("acme", f"u:{HOUR}", "cost_nano_usd", 12_000, 11_999),
        Difference("acme", f"u:{HOUR}", "rows", 1, 0),
    ]


def test_an_amount_in_another_row_is_found() -> None:
    """What an organization used is right, and whose key used it is not."""
    other = msgspec.structs.replace(LINE, key_id="key_2")

    assert compare("acme", TABLES, folded(other)) == [Difference("acme", f"u:{HOUR}", "rows", 1, 0)]


def test_an_amount_in_another_hour_is_found() -> None:
    """The sum of both hours is right."""
    hours = {HOUR: {}, "1970-01-02T01": USAGE}

    found = compare("acme", OrgTables(SETTLED, SETTLED, hours), folded(LINE))

    assert {d.what for d in found} == {f"u:{HOUR}", "u:1970-01-02T01"}


def test_a_balance_that_the_log_did_not_book_is_found() -> None:
    """What a call booked must be booked from the log as well."""
    tables = OrgTables(SETTLED, {}, {HOUR: USAGE})

    assert compare("acme", tables, folded(LINE)) == [
        Difference("acme", BALANCE, "settled", 12_000, 0)
    ]


def test_what_a_call_settled_and_nobody_booked_yet_is_no_difference() -> None:
    """However much is under way: it is read at the same instant."""
    pending = UnderWay({BALANCE: {"settled": 5_000, "reserved": 70, "spare": 70}})
    balance = {"settled": 17_000, "reserved": 70, "spare": 70}

    assert balance_differences("acme", OrgTables({BALANCE: balance}, SETTLED, {}, pending)) == []


@pytest.mark.parametrize("name", ["settled", "over", "late", "reserved", "spare"])
def test_a_field_of_a_balance_that_was_changed_by_hand_is_named(name: str) -> None:
    """Each has something that speaks for it; nothing of that is a snapshot."""
    fields = {"settled": 12_000, "over": 3, "late": 4}
    honest = fields | {"reserved": 50, "spare": 20}
    held = UnderWay({BALANCE: {"reserved": 50, "spare": 20}})
    tables = OrgTables({BALANCE: honest | {name: honest[name] + 7}}, {BALANCE: fields}, {}, held)

    assert compare("acme", tables, {}) == [
        Difference("acme", BALANCE, name, honest[name] + 7, honest[name])
    ]


def test_what_is_held_speaks_for_balances_that_are_gone() -> None:
    """An open attempt whose balance was deleted is a difference."""
    tables = OrgTables({}, {}, {}, UnderWay({BALANCE: {"reserved": 50}}))

    assert compare("acme", tables, {}) == [Difference("acme", BALANCE, "reserved", 0, 50)]


def test_what_attempts_speak_for_is_not_judged_when_there_are_too_many() -> None:
    """The others still are."""
    balances = {BALANCE: {"settled": 12_345, "reserved": 9, "late": 1}}
    tables = OrgTables(balances, SETTLED, {}, under_way=None)

    assert compare("acme", tables, {}) == [Difference("acme", BALANCE, "late", 1, 0)]


def test_an_hour_that_only_the_log_knows_is_found() -> None:
    """A ledger that lost an organization does not pass."""
    found = compare("acme", OrgTables({}, {}, {}), folded(LINE))

    assert {d.field for d in found} == {name for name, amount in USAGE.items() if amount}
    assert all(d.ledger == 0 for d in found if d.field != "rows")


def test_a_correction_moves_amounts_and_no_counts() -> None:
    """A revision is no new request."""
    correction = msgspec.structs.replace(
        LINE, usage_id="r1:1:1", revision=1, output_tokens=-2, cost_nano_usd=-3_000
    )

    sums = folded(LINE, correction)[HOUR]

    assert (sums["requests"], sums["attempts"]) == (1, 1)
    assert (sums["output_tokens"], sums["cost_nano_usd"]) == (3, 9_000)


def test_an_attempt_without_a_price_is_counted_as_such() -> None:
    """Unknown cost is not a cost of zero."""
    unpriced = msgspec.structs.replace(LINE, cost_nano_usd=None)

    assert folded(unpriced)[HOUR]["unpriced"] == 1


def test_lines_older_than_the_tables_are_left_out() -> None:
    """Tables leave the store after forty days; the log stays longer."""
    assert folded(msgspec.structs.replace(LINE, finished_at_ms=DAY_MS - 1)) == {}


def test_what_differs_is_looked_at_again_and_no_more() -> None:
    """Balances and hours, by organization."""
    found = [
        Difference("a", BALANCE, "settled", 1, 0),
        Difference("a", BALANCE, "late", 1, 0),
        Difference("a", f"u:{HOUR}", "rows", 1, 0),
        Difference("b", f"u:{HOUR}", "requests", 1, 0),
    ]

    assert suspects(found) == {"a": OrgKeys((BALANCE,), (HOUR,)), "b": OrgKeys((), (HOUR,))}


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

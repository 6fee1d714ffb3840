"""What a budget service may answer, and what is made of everything else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.budget_service import (
    Allow,
    Deny,
    OddAnswer,
    nano_usd_told,
    read_answer,
    spend_balance,
    units_told,
    valid_for_s,
)
from schemas.money import MAX_NANO_USD

DENY = b'{"decision":"deny","limit_type":"budget","current_usage":"1","limit":"1"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe{}",
        b"<html>sorry</html>",
        b"[" * 100_000,
        b'{"decision":"maybe"}',
        b'{"decision":true}',
        b'{"decision":"deny"}',
        b'{"decision":"allow"} {"decision":"allow"}',
        b'{"decision":"allow","remaining_usd":10}',
        b'{"decision":"allow","remaining_usd":10.5}',
        b'{"decision":"allow","remaining_usd":NaN}',
        b'{"decision":"allow","remaining_usd":"NaN"}',
        b'{"decision":"allow","remaining_usd":"Infinity"}',
        b'{"decision":"allow","remaining_usd":"1e9"}',
        b'{"decision":"allow","remaining_usd":"1_000"}',
        b'{"decision":"allow","remaining_usd":" 1"}',
        b'{"decision":"allow","remaining_usd":"1\\n"}',
        b'{"decision":"allow","remaining_usd":"\xd9\xa1"}',
        b'{"decision":"allow","remaining_usd":"' + b"9" * 25 + b'"}',
        b'{"decision":"allow","valid_for_ms":-1}',
        b'{"decision":"allow","valid_for_ms":1.5}',
        b'{"decision":"allow","valid_for_ms":"1000"}',
        b'{"decision":"allow","valid_for_ms":1' + b"0" * 400 + b"}",
        DENY + b',"retry_after":-5}',
        DENY + b',"retry_after":1' + b"0" * 40 + b"}",
        DENY.replace(b'"budget"', b'"tokens"') + b"}",
        DENY.replace(b'"1"', b"1") + b"}",
    ],
)
def test_what_is_no_answer_is_refused_as_a_whole(body: bytes) -> None:
    """Nothing is guessed of it: the service counts as silent."""
    with pytest.raises(OddAnswer):
        read_answer(body)


def test_an_answer_may_say_more_than_is_read() -> None:
    """A service that grows stays readable; what it need not say has a default."""
    answer = read_answer(b'{"decision":"allow","mood":"good","valid_for_ms":20}')

    assert answer == Allow(valid_for_ms=20)
    assert read_answer(b'{"decision":"allow"}').valid_for_ms == 1_000
    assert read_answer(DENY + b"}") == Deny(limit_type="budget", current_usage="1", limit="1")


@pytest.mark.parametrize(
    ("said_ms", "taken_s"), [(0, 0.1), (100, 0.1), (1_000, 1.0), (60_000, 60.0), (2**53 - 1, 60.0)]
)
def test_an_answer_holds_for_neither_an_instant_nor_for_ever(said_ms: int, taken_s: float) -> None:
    assert valid_for_s(Allow(valid_for_ms=said_ms)) == taken_s


@pytest.mark.parametrize(
    ("told", "nano"),
    [
        ("10", 10_000_000_000),
        ("0.000000001", 1),
        ("0.0000000019", 1),
        ("-0.5", -500_000_000),
        ("-0.0000000001", -1),
        ("9" * 24, MAX_NANO_USD),
        ("-" + "9" * 24 + "." + "9" * 24, -MAX_NANO_USD),
    ],
)
def test_amounts_are_exact_and_rounded_down(told: str, nano: int) -> None:
    """More than the ledger can count is as much as it can."""
    assert nano_usd_told(told) == nano
    assert units_told("12.9") == 12


@given(st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_no_bytes_do_anything_else(body: bytes) -> None:
    """Whatever comes is an answer or is odd."""
    try:
        read_answer(body)
    except OddAnswer:
        return


@given(st.from_type(Allow) | st.from_type(Deny))
def test_what_is_read_is_what_was_written(answer: Allow | Deny) -> None:
    """Where its amounts are amounts."""
    body = msgspec.json.encode(answer)
    try:
        assert read_answer(body) == answer
    except OddAnswer:
        assert any(c not in "0123456789.-" for c in body.decode())


def test_no_scope_of_limits_has_such_a_balance() -> None:
    """Organization, project, key and user begin otherwise."""
    assert spend_balance("org") == "b:service/org/nano_usd:total"

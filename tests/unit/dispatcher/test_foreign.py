"""What backends say is bounded where it enters."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from dispatcher.upstream import foreign

_NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("header", "hint_ms"),
    [
        ("7", 7_000),
        (" 7 ", 7_000),
        ("1.5", 1_500),
        ("0", 0),
        ("86400", 120_000),
        (formatdate(_NOW_MS / 1000 + 30, usegmt=True), 30_000),
        (formatdate(_NOW_MS / 1000 - 30, usegmt=True), 0),
        (formatdate(_NOW_MS / 1000 + 3_000, usegmt=True), 120_000),
        ("Wed, 99 Foo 2099 99:99:99 GMT", None),
        ("Mon, 01 Jan 99999999 00:00:00 GMT", None),
        ("\u00b2", None),
        ("\u0663", None),
        ("9" * 5_000, None),
        ("9" * 30, None),
        ("-1", None),
        ("1e9", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("\udcff", None),
        (None, None),
    ],
)
def test_a_hint_to_come_back_later_is_kept_within_bounds(
    header: str | None, hint_ms: int | None
) -> None:
    """Seconds, also with a fraction, or a date, up to two minutes; anything else is no hint."""
    assert foreign.retry_after_ms(header, _NOW_MS) == hint_ms


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("no such model", "no such model"),
        ("x" * 9_000_000, "x" * 500),
        ("a\x1b[31mb\r\nc\x00\u202ed", "a [31mb c d"),
        ("\ud800", "?"),
        (" \n ", None),
        ("", None),
        (None, None),
    ],
    ids=["usual", "9 MB", "controls", "surrogate", "blank", "empty", "none"],
)
def test_a_message_is_one_bounded_line(sent: str | None, told: str | None) -> None:
    """It reaches clients, records and terminals."""
    assert foreign.message(sent) == told


@pytest.mark.parametrize(("sent", "kept"), [(99, None), (100, 100), (599, 599), (999, None)])
def test_a_status_is_one_that_http_knows(sent: int, kept: int | None) -> None:
    """100 to 599."""
    assert foreign.status(sent) == kept


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("s3cret", "s3cret"),
        ("s3cret\n", "s3cret"),
        (" s3cret\r\n", "s3cret"),
        ("s3\ncret", None),
        ("s3 cret", None),
        ("\u043a\u043b\u044e\u0447", None),
        ("\x7f", None),
        ("\n", None),
        ("x" * 5_000, None),
    ],
)
def test_a_key_is_stripped_and_checked(value: str, secret: str | None) -> None:
    """Files end in a newline; what no header can carry is unusable."""
    assert foreign.usable_secret(value) == secret

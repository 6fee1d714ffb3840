"""Bodies that are and are not acceptable JSON."""

from __future__ import annotations

import msgspec
import pytest

from ingress.http.refusals import Refusal
from ingress.http.request import DEPTH_MAX, INTEGER_MAX, INTEGER_MIN, read_object


def _nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"a": [1, 2.5, true, null, "x"]}',
        b'{"a": %d}' % INTEGER_MAX,
        b'{"a": %d}' % INTEGER_MIN,
        '{"a": "\\ud83d\\ude00 é"}'.encode(),
        _nested(DEPTH_MAX),
        b'{"a":"' + b"[" * 1_000 + b'"}',
    ],
    ids=[
        "empty",
        "kinds",
        "largest integer",
        "smallest integer",
        "surrogate pair",
        "deepest",
        "brackets in text",
    ],
)
def test_acceptable_json_is_read(body: bytes) -> None:
    """Strictness refuses nothing that all parsers read alike."""
    assert isinstance(read_object(body), dict)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"{} x", "JSON"),
        (b"\xef\xbb\xbf{}", "JSON"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"x": [{"b": 1, "b": 1}]}', "'b' appears twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": %d}' % (INTEGER_MAX + 1), "64 bits"),
        (b'{"a": %d}' % (INTEGER_MIN - 1), "64 bits"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "64 bits"),
        (b'{"a": "\\ud800"}', "UTF-8"),
        (b'{"\\udfff": 1}', "UTF-8"),
        (_nested(DEPTH_MAX + 1), "nested"),
        (b'{"a":' * 500_000, "nested"),
        (b"[" * 4_000_000, "nested"),
    ],
)
def test_unacceptable_json_is_refused_with_a_reason(body: bytes, reason: str) -> None:
    """Whatever the body, the answer is a 400 that says why, never an exception."""
    refusal = read_object(body)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code.value) == (400, "invalid_json")
    assert reason in refusal.message


def test_numbers_of_64_bits_reach_the_backend_unchanged() -> None:
    """Tool schemas made from Go or Java have them, and so do seeds (faults.md D3)."""
    numbers = [INTEGER_MIN, INTEGER_MAX, 2**63 - 1, 2**60 + 1, 1.7976931348623157e308]
    fields = read_object(msgspec.json.encode({"seed": numbers}))

    assert not isinstance(fields, Refusal)
    assert msgspec.json.decode(msgspec.json.encode(fields))["seed"] == numbers

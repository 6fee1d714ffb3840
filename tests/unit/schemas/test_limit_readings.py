"""What is left of a bucket, by what the ledger has stored of it."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from schemas.ledger.documents import Rate
from schemas.ledger.limit_readings import read_rate

NOW_US = 1_700_000_000_000_000


def _rate(burst: int, flow: int) -> Rate:
    return Rate(key="r:org/requests", id="org:requests_per_s", cost=1, burst=burst, rate_milli_per_s=flow)  # fmt: skip


@given(
    burst=st.integers(1, 10**9),
    flow=st.integers(1, 10**9),
    ahead_us=st.integers(-(10**9), 10**12),
    part=st.integers(0, 10**9),
)
def test_a_bucket_lacks_what_flows_in_until_it_is_full(
    burst: int, flow: int, ahead_us: int, part: int
) -> None:
    """Rounded up, never more than its burst; the same sums as fractions make."""
    read = read_rate(_rate(burst, flow), (NOW_US + ahead_us, part), NOW_US)

    exact = Fraction(ahead_us * flow + part % flow, 10**9) if ahead_us > 0 else 0
    assert read.used == min(burst, math.ceil(exact))
    empty_us = Fraction(burst * 10**9, flow)
    full_us = NOW_US + min(max(0, ahead_us), math.ceil(empty_us))
    assert read.full_ms == (NOW_US // 1000 if ahead_us <= 0 else math.ceil(Fraction(full_us, 1000)))


def test_a_bucket_that_was_never_charged_is_full() -> None:
    """Now."""
    assert read_rate(_rate(5, 1_000), (0, 0), NOW_US) == (0, NOW_US // 1000)

"""Which requests are traced: a share by our own dice, and what clients ask for within a bound."""

from __future__ import annotations

import itertools
import random

import pytest

from schemas.ids import UUID7_RANDOM_BYTES, uuid7
from schemas.sampling import SAMPLERS, sampler_of
from schemas.trace_context import TraceContext

ASKS = TraceContext(b"\1" * 16, b"\2" * 8, is_sampled=True)
FORBIDS = TraceContext(b"\1" * 16, b"\2" * 8, is_sampled=False)
DICE = random.Random(14)
IDS = [uuid7(1_700_000_000_000, DICE.randbytes(UUID7_RANDOM_BYTES)) for _ in range(20_000)]


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_a_ratio_is_the_share_of_requests_that_is_traced(ratio: float) -> None:
    """Of requests whose ids are drawn as ids are."""
    sampler = sampler_of("traceidratio", ratio, 10)

    share = sum(sampler.wants(None, request_id, 0.0) for request_id in IDS) / len(IDS)

    assert share == pytest.approx(ratio, abs=0.01)
    assert ratio not in (0.0, 1.0) or share == ratio


def test_the_dice_are_not_the_clients() -> None:
    """Whatever trace id a client chooses: the share of its requests is that of everybody."""
    sampler = sampler_of("traceidratio", 0.1, 10)
    chosen = TraceContext(bytes(15) + b"\1", b"\2" * 8, is_sampled=True)

    share = sum(sampler.wants(chosen, request_id, 0.0) for request_id in IDS) / len(IDS)

    assert share == pytest.approx(0.1, abs=0.01)


def test_a_client_that_asks_is_followed_so_often_a_second_and_no_more() -> None:
    """A flood of flags gets what the bucket holds, then its rate, then the share of everybody."""
    sampler = sampler_of("parentbased_traceidratio", 0.0, 10)

    at_once = sum(sampler.wants(ASKS, request_id, 100.0) for request_id in IDS[:5_000])
    times = [100.0 + n / 1_000 for n in range(1, 10_001)]
    later = sum(map(sampler.wants, itertools.repeat(ASKS), IDS, times))

    assert at_once == 10
    assert later == pytest.approx(100, abs=1)


def test_beyond_that_its_requests_are_like_any_other() -> None:
    """They are traced at the ratio."""
    sampler = sampler_of("parentbased_traceidratio", 0.1, 10)

    share = sum(sampler.wants(ASKS, request_id, 0.0) for request_id in IDS) / len(IDS)

    assert share == pytest.approx(0.1, abs=0.01)


def test_one_in_two_seconds_is_followed_at_half_a_request_a_second() -> None:
    """A rate below one is a rate, and none is none."""
    slow, never = (sampler_of("parentbased_always_off", 0.0, rate) for rate in (0.5, 0.0))
    seconds = [float(n) for n in range(100)]

    assert sum(slow.wants(ASKS, IDS[0], at_s) for at_s in seconds) == 50
    assert not any(never.wants(ASKS, IDS[0], at_s) for at_s in seconds)


def test_a_client_that_traces_nothing_is_heeded_by_samplers_that_heed_parents() -> None:
    """A part of a trace that nobody has the rest of is of no use."""
    assert not sampler_of("parentbased_always_on", 1.0, 10).wants(FORBIDS, IDS[0], 0.0)
    assert sampler_of("always_on", 0.0, 10).wants(FORBIDS, IDS[0], 0.0)


@pytest.mark.parametrize(
    ("name", "alone", "asked"),
    [
        ("always_on", True, True),
        ("always_off", False, False),
        ("traceidratio", False, False),
        ("parentbased_always_on", True, True),
        ("parentbased_always_off", False, True),
        ("parentbased_traceidratio", False, True),
    ],
)
def test_samplers_mean_what_opentelemetry_says(name: str, alone: bool, asked: bool) -> None:
    """With a ratio of 0, which the two that take one heed."""
    assert name in SAMPLERS
    sampler = sampler_of(name, 0.0, 10)

    assert sampler.wants(None, IDS[0], 0.0) is alone
    assert sampler.wants(ASKS, IDS[0], 0.0) is asked

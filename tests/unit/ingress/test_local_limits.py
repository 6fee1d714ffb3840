"""What a local bucket lets pass, and what it tells the others."""

from __future__ import annotations

import pytest

from ingress.gatekeeper.local_limits import Bucket, LocalBuckets

BUCKET = Bucket(per_s=10, burst=5)


def _try(buckets: LocalBuckets, now_s: float, cost: float = 1, name: str = "a") -> float:
    wait_s = buckets.wait_s(name, BUCKET, cost, now_s)
    if not wait_s:
        buckets.take(name, BUCKET, cost, now_s)
    return wait_s


def test_a_burst_passes_and_then_the_rate() -> None:
    """Five at once, then one every tenth of a second."""
    buckets = LocalBuckets()

    assert [_try(buckets, 100.0) for _ in range(5)] == [0] * 5
    assert _try(buckets, 100.0) == pytest.approx(0.1)
    assert [_try(buckets, 100.1 + n / 10 + 1e-6) for n in range(5)] == [0] * 5


def test_the_rate_of_a_flood_is_the_buckets() -> None:
    """However much is offered."""
    buckets = LocalBuckets()

    passed = sum(not _try(buckets, 100 + n / 100) for n in range(1_000))

    assert passed == pytest.approx(10 * 10 + 5, abs=1)


def test_a_crowd_is_told_one_turn_after_the_other() -> None:
    """And none is told to wait for longer than five seconds."""
    buckets = LocalBuckets()
    for _ in range(5):
        _try(buckets, 100.0)

    told = [_try(buckets, 100.0) for _ in range(1_000)]

    assert told[:3] == [pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.3)]
    assert max(told) == pytest.approx(5)


def test_names_have_buckets_of_their_own() -> None:
    """One that is empty is nobody else's."""
    buckets = LocalBuckets()
    for _ in range(6):
        _try(buckets, 100.0)

    assert _try(buckets, 100.0, name="b") == 0


def test_what_is_larger_than_the_bucket_waits_for_all_of_it() -> None:
    """It would never pass otherwise."""
    buckets = LocalBuckets()
    _try(buckets, 100.0)

    assert _try(buckets, 100.0, cost=50) == pytest.approx(0.1)
    assert _try(buckets, 100.2, cost=50) == 0


def test_the_one_not_used_for_longest_makes_room() -> None:
    """Memory is bounded; what is forgotten is a full bucket."""
    buckets = LocalBuckets(names_max=2)
    for name in ("a", "a", "a", "a", "a", "b", "c"):
        _try(buckets, 100.0, name=name)

    assert _try(buckets, 100.0, name="a") == 0


WIDE = Bucket(per_s=10, burst=5, widened=2)


def test_what_is_told_is_when_the_ledger_has_room() -> None:
    """Ten passed here, five of them there as well; the sixth fits there a tenth of a second later."""
    buckets = LocalBuckets()
    for _ in range(10):
        assert buckets.wait_s("a", WIDE, 1, 100.0) == 0
        buckets.take("a", WIDE, 1, 100.0)

    assert buckets.wait_s("a", WIDE, 1, 100.0) == pytest.approx(0.1)


def test_what_the_ledger_says_is_believed() -> None:
    """It sees what other ingresses let pass."""
    buckets = LocalBuckets()
    for _ in range(10):
        buckets.take("a", WIDE, 1, 100.0)
    buckets.learn("a", WIDE, 3.0, 100.0)

    assert buckets.wait_s("a", WIDE, 1, 100.0) == pytest.approx(3.0)


def test_those_that_wait_for_a_rate_find_room() -> None:
    """Under a policy to wait, more than the burst comes at once and none of it is a flood."""
    buckets, patient = LocalBuckets(), Bucket(per_s=1, burst=1, widened=2, waiting=32)
    passed = 0
    for _ in range(100):
        if not buckets.wait_s("a", patient, 1, 100.0):
            buckets.take("a", patient, 1, 100.0)
            passed += 1

    assert passed == 34

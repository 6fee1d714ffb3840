"""How many holds there are, and how old."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from accounting.hold_watch import HoldWatch, oldest_age_s
from schemas.ids import uuid7
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store
from tests.support.samples import sample

_NOW_MS = 1_700_000_100_000


def _member(age_ms: int, org: str = "acme") -> bytes:
    return f"{org}|{uuid7(_NOW_MS - age_ms, bytes(10))}".encode()


class _Store:
    """Sorted sets by key."""

    def __init__(self, **sets: list[bytes]) -> None:
        self.sets = sets

    def call(self, command: str, key: str, *span: int) -> asyncio.Future[Any]:
        found = self.sets.get(key[1:].replace("}|", "_"), [])
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_result(len(found) if command == "ZCARD" else found[span[0] : span[1] + 1])
        return answer


class _Clock(Clock):
    def now_ms(self) -> int:
        return _NOW_MS


def test_the_age_of_holds_is_that_of_the_oldest_request() -> None:
    """By the time in its id, whatever its organization is called."""
    assert oldest_age_s([_member(1_000), _member(90_000, "a|b"), _member(50)], _NOW_MS) == 90


def test_without_holds_there_is_no_age() -> None:
    """Nor of what no ingress made, nor of what is of a clock ahead of ours."""
    assert oldest_age_s([], _NOW_MS) == 0
    assert oldest_age_s([b"acme|no-id", b"\xff", _member(-5_000)], _NOW_MS) == 0


async def test_holds_of_the_shards_that_are_ours_are_counted_by_state() -> None:
    """Another process tells of the others; a shard that went to it is not told of any more."""
    here = {"1_exp": [_member(1_000)] * 2, "2_exp": [_member(7_000)], "2_inf": [_member(3_000)]}
    store, metrics, owned = _Store(**here, **{"3_inf": [_member(9_000)]}), Metrics(), {1, 2}
    watch = HoldWatch(cast("Store", store), lambda: frozenset(owned), _Clock(), metrics)

    await watch.look()

    assert sample(metrics, "tallygate_holds", state="reserved") == 3
    assert sample(metrics, "tallygate_holds", state="running") == 1
    assert sample(metrics, "tallygate_oldest_hold_seconds", state="reserved") == 7
    assert sample(metrics, "tallygate_oldest_hold_seconds", state="running") == 3

    owned.clear()
    await watch.look()
    assert sample(metrics, "tallygate_holds", state="running") == 0
    assert sample(metrics, "tallygate_oldest_hold_seconds", state="running") == 0

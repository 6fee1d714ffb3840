"""The filter names every request whose mark is to come, and few others."""

from __future__ import annotations

import random

from accounting.rebuild.fold import Mark
from accounting.rebuild.marks import AwaitedMarks
from schemas.ids import uuid7

NOW_MS = 1_795_000_000_000


def _named(awaited: bytes, req: str) -> bool:
    """As the ledger looks: every bit by itself, from the left."""
    bits = "".join(f"{byte:08b}" for byte in awaited)
    return all(bits[int(digits, 16) % len(bits)] == "1" for digits in (req[-12:-6], req[-6:]))


def _noted(ids: list[str]) -> AwaitedMarks:
    marks = AwaitedMarks()
    marks.note([Mark("acme", req, "booked", n, NOW_MS, True) for n, req in enumerate(ids)])
    return marks


def _ids(chance: random.Random, count: int) -> list[str]:
    return [uuid7(NOW_MS, chance.randbytes(10)) for _ in range(count)]


def test_every_request_that_was_noted_is_named_and_few_others_are() -> None:
    """Of any number: one in sixty at the most waits in vain, as far as chance goes."""
    chance = random.Random(1)
    for count in (1, 2, 7, 100, 3_000):
        ids = _ids(chance, count)
        awaited = _noted(ids).filter()
        assert all(_named(awaited, req) for req in ids)
        others = sum(_named(awaited, req) for req in _ids(chance, 1_000))
        assert others < 40, f"{others} of 1 000 beside {count}"


def test_without_marks_there_is_no_filter() -> None:
    """Then nobody waits."""
    assert AwaitedMarks().filter() == b""


def test_ids_of_others_are_in_no_filter_but_leave_one() -> None:
    """The ledger lets all of those wait."""
    assert _noted(["r1", "not-one-of-ours", ""]).filter() == bytes(1)


def test_pieces_are_in_the_order_of_the_log_and_small() -> None:
    """So that the store is never busy with one for long."""
    marks = _noted(_ids(random.Random(2), 600))
    assert len(marks.pieces) == 3
    assert b",0," in bytes(marks.pieces[0])[:90]

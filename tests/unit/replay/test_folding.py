"""A range is folded by the books' own handlers, and differs from what is live only where something is wrong."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from deploy.replay.selection import Selection
from schemas.events import Booking
from schemas.outgoing import Outgoing, outcome_record
from schemas.topics import OUTCOMES
from tests.support.events import NOW_MS, attempt
from tests.unit.replay.scene import ReplayScene, outcome

pytestmark = pytest.mark.timeout(20)
MINUTES = 3_600_000 // 60


@pytest.fixture
def scene(tmp_path: Path) -> ReplayScene:
    return ReplayScene(tmp_path / "replay.sqlite3")


async def test_what_was_booked_is_what_a_fold_of_it_comes_to(scene: ReplayScene) -> None:
    """Tables, lines and periods; the log has all that was ever booked."""
    booked = [Booking(key="b:org/tokens:2023-11", unit="tokens", amount=5)]
    await scene.append(*(msgspec.structs.replace(outcome(n), bookings=booked) for n in range(20)))

    found, counts = await scene.replayed(scene.plan())

    assert (found["difference"], found["not_compared"]) == (0, [])
    assert (counts["booked"], found["tables_compared"], found["periods_compared"]) == (20, 1, 1)
    totals = {each["measure"]: (each["fold"], each["live"]) for each in found["totals"]}
    assert totals["requests"] == (20, 20)
    assert totals["input_tokens"] == (10 * 20 + 190, 10 * 20 + 190)


async def test_an_altered_line_is_named(scene: ReplayScene) -> None:
    """One attempt of one outcome says a token more: its sums and its line are told, and nothing else is."""
    await scene.append(*(outcome(n) for n in range(10)))
    scene.alter(4, output_tokens=35)

    found, _ = await scene.replayed(scene.plan())

    assert found["difference"] == 2
    (of_sum,) = found["sums"]
    assert (of_sum["org"], of_sum["key"], of_sum["model"]) == ("acme", "key_a", "echo")
    assert (of_sum["measure"], of_sum["fold"], of_sum["live"]) == ("output_tokens", 341, 340)
    (line,) = found["lines"]
    assert line["usage_id"] == f"{outcome(4).request_id}:1:0"
    assert line["fields"] == {"output_tokens": {"live": 34, "fold": 35}}


async def test_errors_that_cancel_each_other_out_are_a_difference(scene: ReplayScene) -> None:
    """A token moved from one hour to the next is in no sum of a day, and yet two cells are wrong."""
    await scene.append(outcome(1), outcome(3_600))
    scene.alter(0, output_tokens=33)
    scene.alter(1, output_tokens=35)

    found, _ = await scene.replayed(scene.plan())

    (of_sum,) = found["sums"]
    assert (of_sum["fold"], of_sum["live"], of_sum["cells"]) == (68, 68, 2)
    assert found["lines_differing"] == 2


@pytest.mark.parametrize(("begin", "end"), [(3, 7), (0, 5), (9, 10)])
async def test_any_range_is_compared_with_tables_that_have_more(
    scene: ReplayScene, begin: int, end: int
) -> None:
    """What lies outside is taken out of the table by its lines, so also a range within an hour is exact."""
    await scene.append(*(outcome(n) for n in range(10)))

    found, counts = await scene.replayed(scene.plan(begin, end))

    assert (found["difference"], counts["booked"], found["tables_compared"]) == (0, end - begin, 1)
    totals = {each["measure"]: each["live"] for each in found["totals"]}
    assert totals["requests"] == end - begin


async def test_a_line_that_was_never_appended_is_named(scene: ReplayScene) -> None:
    """And so is one that nothing in the range explains."""
    await scene.append(*(outcome(n) for n in range(5)))
    (lines,) = [r for p, r in scene.log.partitions.items() if p.topic != OUTCOMES]
    lost = lines.pop(2)

    found, _ = await scene.replayed(scene.plan())

    (line,) = found["lines"]
    assert line["usage_id"].encode() == dict(lost.headers)["ce_id"]
    assert line["why"] == "the usage log has no such line"


async def test_copies_count_once_whichever_side_of_the_range_they_lie(scene: ReplayScene) -> None:
    """An outcome that was produced again after an outage; the range begins between the two."""
    await scene.append(*(outcome(n) for n in range(6)), outcome(1), outcome(2), outcome(2))

    whole, counts = await scene.replayed(scene.plan())
    scene.file.unlink()
    later, of_later = await scene.replayed(scene.plan(begin=4))

    assert (whole["difference"], counts["booked"], counts["duplicates"]) == (0, 6, 3)
    assert (later["difference"], of_later["booked"], of_later["duplicates"]) == (0, 2, 3)


async def test_filters_choose_and_the_rest_is_no_difference(scene: ReplayScene) -> None:
    """By organization, model and status, and by all of them at once."""
    failed = [attempt(status="failed", output_tokens=0, cost_nano_usd=0, finished_at_ms=NOW_MS)]
    await scene.append(
        outcome(1),
        outcome(2, org="bolt"),
        outcome(3, model="large"),
        outcome(4, status="failed", attempts=failed),
        outcome(5, org="bolt", model="large"),
    )
    for selection, booked in (
        (Selection(orgs=frozenset({"bolt"})), 2),
        (Selection(models=frozenset({"large"})), 2),
        (Selection(statuses=frozenset({"failed"})), 1),
        (Selection(frozenset({"bolt"}), frozenset({"large"}), frozenset({"completed"})), 1),
        (Selection(orgs=frozenset({"nobody"})), 0),
    ):
        found, counts = await scene.replayed(scene.plan(selection=selection))
        scene.file.unlink()

        assert (found["difference"], counts.get("booked", 0)) == (0, booked), selection


async def test_records_that_cannot_be_read_are_named(scene: ReplayScene) -> None:
    """What accounting buried is buried here, and what a newer version wrote is told apart from it."""
    await scene.append(outcome(1))
    await scene.append_raw(Outgoing(OUTCOMES, b"acme", b"garbage"))
    newer = Outgoing(OUTCOMES, b"acme", b"\0\0\x0f\x42\x40rest")
    scene.log.append(newer, 0, NOW_MS)

    async with scene.opened() as checkpoint:
        plan = scene.plan()
        await scene.fold(checkpoint, plan)
        named = checkpoint.undecodable(10)
        counts = checkpoint.counts()

    assert [(partition, offset) for partition, offset, _ in named] == [(0, 1), (0, 2)]
    assert "newer version" in named[1][2]
    assert (counts["undecodable"], counts["read"], counts["booked"]) == (2, 3, 1)


async def test_a_killed_replay_goes_on_where_it_was_and_comes_to_the_same(
    scene: ReplayScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not committed is read again, and nothing is added twice."""
    monkeypatch.setattr("deploy.replay.folding.COMMIT_EVERY", 10)
    await scene.append(*(outcome(n) for n in range(50)), outcome(7))
    plan = scene.plan()

    await scene.fold_until_killed(plan, 25)
    async with scene.opened() as checkpoint:
        committed = checkpoint.places()
        await scene.fold(checkpoint, plan)
        found, counts = await scene.compared(checkpoint, plan), checkpoint.counts()

    assert committed == {0: 20}
    assert (found["difference"], counts["read"]) == (0, 51)
    assert (counts["booked"], counts["duplicates"]) == (50, 1)


def test_an_outcome_is_made_as_dispatchers_do() -> None:
    """The helper of this file: each number is another request of its own second."""
    assert outcome(1).request_id != outcome(2).request_id
    assert outcome_record(outcome(1), "dispatcher").topic == OUTCOMES


async def test_a_table_that_cannot_be_compared_is_told(scene: ReplayScene) -> None:
    """One with a field that nobody of ours wrote, and one of a shard that is closed; neither passes for equal."""
    await scene.append(outcome(1))
    (table,) = scene.live.model.books.usage.values()
    table["no cell of ours"] = 1

    odd, _ = await scene.replayed(scene.plan())
    scene.file.unlink()
    scene.live.closed_shards = {0: "shard 0 is closed"}
    closed, _ = await scene.replayed(scene.plan())

    assert odd["not_compared"] == [{"why": "a field of the table is none of ours", "tables": 1}]
    assert closed["not_compared"] == [{"why": "shard 0 is closed", "tables": 1}]
    assert (odd["tables_compared"], closed["tables_compared"]) == (0, 0)

"""Requests of the log are decided again as the limiter would, and only what changes is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.replay.checkpoint import Checkpoint, open_checkpoint
from deploy.replay.deciding import ADMITTED, Decider, verdict_in
from deploy.replay.origin import Placed
from deploy.replay.selection import ALL, Selection
from schemas.codec import encode
from schemas.config_state import Snapshot
from schemas.entities import Budget, Limits
from schemas.errors import ErrorCode
from schemas.events import Booking, Denial, RequestAccepted, RequestFinished
from schemas.ids import uuid7
from schemas.stated_limits import Defaults
from schemas.topics import OUTCOMES, REQUESTS
from tests.support.events import NOW_MS, accepted, attempt, configuration, finished

DEFAULTS = Defaults(requests_per_s=100.0, burst=200, in_flight=256)
BUDGET = "b:org/nano_usd:total"
BOUND_NANO_USD = 1_000 * 2_000 + 500 * 6_000
"""What a request holds: its bounds of tokens at the prices of the model."""


class Told:
    """Takes what happens, a second after the other, and says which verdicts changed."""

    def __init__(self, file: Path, config: Snapshot, *, before: int = 0, **more: Any) -> None:
        self.file, self.config, self.before, self.more = file, config, before, more

    async def __call__(
        self, *events: RequestAccepted | RequestFinished
    ) -> tuple[list[Any], dict[str, int]]:
        """Changed verdicts as request, was, now; and all counts."""

        async def spent(org: str, balances: Sequence[str]) -> Mapping[str, int]:
            return dict.fromkeys(balances, self.before)

        with open_checkpoint(self.file, "a test") as checkpoint:
            decider = Decider(
                self.config, DEFAULTS, self.more.get("selection", ALL), checkpoint,
                {REQUESTS: self.more.get("begin", 0)}, spent,
            )  # fmt: skip
            for number, event in enumerate(events):
                await decider.take(_placed(event, number))
            decider.end()
            return _changed(checkpoint), checkpoint.counts()


def _placed(event: RequestAccepted | RequestFinished, number: int) -> Placed:
    topic = REQUESTS if isinstance(event, RequestAccepted) else OUTCOMES
    return Placed(topic, 0, number, NOW_MS + number * 1_000, b"acme", encode(event), ())


def _changed(checkpoint: Checkpoint) -> list[Any]:
    return list(checkpoint.file.execute("SELECT id, was, now FROM changed ORDER BY at_ms"))


def request(number: int, **more: Any) -> RequestAccepted:
    return accepted(request_id=uuid7(NOW_MS, number.to_bytes(10)), **more)


def ran(number: int, cost: int = 1_000_000, **more: Any) -> RequestFinished:
    """The outcome of a request that ran and cost so much."""
    booked = [Booking(key=BUDGET, unit="nano_usd", amount=cost)]
    return finished([attempt()], booked, request_id=request(number).request_id, **more)


def refused(number: int, limit: str = "org:budget:total") -> RequestFinished:
    """The outcome of a request that a limit refused."""
    denial = Denial(limit_id=limit, limit_type="budget", unit="nano_usd", current_usage=1, limit=1)
    more = {"status": "refused", "error_code": "BUDGET_EXCEEDED", "denial": denial, "fence": 0}
    return finished([], [], request_id=request(number).request_id, **more)


def with_budget(usd: str) -> Snapshot:
    return configuration(org=Limits(budgets=(Budget(usd=usd, period="total"),)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "replay.sqlite3"


async def test_what_the_limits_still_say_is_no_change(file: Path) -> None:
    """Two fit into the budget one after the other, because the first returned most of what it held."""
    told = Told(file, with_budget("0.007"))

    changed, counts = await told(request(1), ran(1), request(2), ran(2))

    assert (changed, counts["judged"], counts["selected"]) == ([], 2, 2)


async def test_a_lower_budget_refuses_what_was_admitted(file: Path) -> None:
    """The second does not fit any more, once the first has spent."""
    told = Told(file, with_budget("0.0055"))

    changed, _ = await told(request(1), ran(1), request(2), ran(2))

    assert changed == [(request(2).request_id, ADMITTED, "BUDGET_EXCEEDED org:budget:total")]


async def test_what_was_spent_before_the_range_counts(file: Path) -> None:
    """The budget is not new because the replay begins here."""
    told = Told(file, with_budget("0.007"), before=3_000_000)

    changed, _ = await told(request(1), ran(1))

    assert [(was, now) for _, was, now in changed] == [
        (ADMITTED, "BUDGET_EXCEEDED org:budget:total")
    ]


async def test_a_higher_budget_admits_what_was_refused(file: Path) -> None:
    """Nobody knows what it would have used, so it uses all that it holds, and the next does not fit."""
    told = Told(file, with_budget("0.006"))

    changed, _ = await told(request(1), refused(1), request(2), refused(2))

    assert changed == [(request(1).request_id, "BUDGET_EXCEEDED org:budget:total", ADMITTED)]
    assert BOUND_NANO_USD == 5_000_000


async def test_a_limit_of_requests_is_decided_at_the_times_of_the_log(file: Path) -> None:
    """Of requests that came at once one is too many; a second later there is room again."""
    config = configuration(key=Limits(requests_per_s=1, burst=1))
    at_once = [request(1), request(2)]

    with open_checkpoint(file, "a test") as checkpoint:

        async def nothing(org: str, balances: Sequence[str]) -> Mapping[str, int]:
            return {}

        decider = Decider(config, DEFAULTS, ALL, checkpoint, {}, nothing)
        told: list[tuple[RequestAccepted | RequestFinished, int]] = [
            (at_once[0], 0),
            (at_once[1], 1),
            (request(3), 1_000),
            *((ran(number), 2_000) for number in (1, 2, 3)),
        ]
        for number, (event, ms) in enumerate(told):
            placed = _placed(event, number)
            await decider.take(placed._replace(timestamp=NOW_MS + ms))
        assert [now for _, _, now in _changed(checkpoint)] == [
            "RATE_LIMIT_EXCEEDED key:requests_per_s"
        ]


async def test_what_no_limit_decided_is_not_judged_and_said(file: Path) -> None:
    """A client that left, a request without an outcome, one before the range, one that a filter leaves out."""
    left = finished([], [], request_id=request(1).request_id, status="cancelled", fence=0)
    told = Told(file, with_budget("1"), begin=1, selection=Selection(models=frozenset({"echo"})))

    changed, counts = await told(
        request(0), request(1), request(2), left, request(3, model="other")
    )

    assert changed == []
    assert counts["not judged: no limit decided how it ended"] == 1
    assert counts["not judged: no outcome"] == 1
    assert counts["selected"] == 2


async def test_a_key_that_is_gone_is_a_change(file: Path) -> None:
    """The configuration in force now decides, whatever was in force then."""
    config = with_budget("1")
    gone = Snapshot(
        offset=9, organizations=config.organizations, projects=config.projects, users=config.users,
        models=config.models, prices=config.prices, versions={("key", "key_a"): 9},
    )  # fmt: skip

    changed, _ = await Told(file, gone)(request(1), ran(1))

    assert [(was, now) for _, was, now in changed] == [(ADMITTED, "invalid_api_key")]


async def test_a_copy_of_a_request_is_decided_once(file: Path) -> None:
    """Its hold is taken once, too."""
    told = Told(file, with_budget("0.007"))

    changed, counts = await told(request(1), request(1), ran(1), ran(1), request(2), ran(2))

    assert (changed, counts["judged"]) == ([], 2)


async def test_what_never_ended_holds_nothing_for_ever(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request of which the log has no outcome gives its hold back, once it can have none any more; memory is bounded."""
    monkeypatch.setattr("deploy.replay.deciding._OPEN_MAX", 2)
    config = with_budget("0.0055")

    async def nothing(org: str, balances: Sequence[str]) -> Mapping[str, int]:
        return {}

    with open_checkpoint(file, "a test") as checkpoint:
        decider = Decider(config, DEFAULTS, ALL, checkpoint, {}, nothing, _look_at=2)
        later = request(2, deadline_ms=NOW_MS + 3_600_000)
        told: list[tuple[RequestAccepted | RequestFinished, int]] = [
            (request(1), 0),
            (later, 1_200_000),
            (ran(2), 1_201_000),
        ]
        for number, (event, ms) in enumerate(told):
            await decider.take(_placed(event, number)._replace(timestamp=NOW_MS + ms))
        counts = checkpoint.counts()

        assert _changed(checkpoint) == []
        assert counts["not judged: no outcome"] == 1


def test_a_verdict_is_read_from_an_outcome() -> None:
    """Admitted, refused by a limit, or nothing that limits decide."""
    assert verdict_in(ran(1)) == ADMITTED
    assert verdict_in(refused(1)) == "BUDGET_EXCEEDED org:budget:total"
    overloaded = finished([], [], status="refused", error_code=ErrorCode.OVERLOADED, fence=0)
    assert verdict_in(overloaded) is None
    assert verdict_in(finished([], [], status="expired", fence=0)) is None

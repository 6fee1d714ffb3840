"""The checks of lost ledgers and outages find what they are for, in invented evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

import pytest

from tests.chaos.evidence import (
    OK,
    AcceptedRequest,
    Ceiling,
    ClientRequest,
    Evidence,
    Exchange,
    LedgerState,
    UsageLine,
)
from tests.chaos.full_verify import FullVerify, read_verify
from tests.chaos.kafka_outage import slow_refusals
from tests.chaos.ledger_loss import BUDGETS_NANO_USD, tasks, tight
from tests.chaos.ledger_loss_run import Loads, Replay
from tests.chaos.loss_findings import misbooked, unheld, wrong_replay
from tests.chaos.loss_report import overspend
from tests.chaos.refusals import Clock, wrong_refusals
from tests.chaos.shard_watch import Reopened, ShardWatch
from tests.chaos.stores import Meta
from tests.chaos.timeline import render_seconds, seconds_of
from tests.support.fakes.call_log import Call, End, Start

CLOCK: Final = Clock(1_000_000.0)
COST: Final = 10 * 500 + 20 * 1_500
WORST: Final = 100_000
ORG: Final = "acme"


def _call(request_id: str, from_s: float, to_s: float | None) -> Call:
    def at_ms(at_s: float) -> int:
        return round((at_s + CLOCK.epoch_s) * 1_000)

    start = Start(f"call-{request_id}", at_ms(from_s), request_id, "fake-1", False, False)
    end = End(start.call_id, at_ms(to_s), 200, 10, 20, "hash", False) if to_s else None
    return Call(start, end)


def _client(org: str, *tries: Exchange, kind: str = "sync", marker: str = "m") -> ClientRequest:
    return ClientRequest(marker, org, kind, list(tries))


def _line(request_id: str, cost: int, *, estimated: bool) -> UsageLine:
    return UsageLine(f"{request_id}:1:0", request_id, 1, 10, 20, cost, estimated, "succeeded")


def _evidence(
    calls: list[Call], clients: list[ClientRequest], lines: list[UsageLine] | None = None
) -> Evidence:
    return Evidence(
        clients=tuple(clients),
        accepted=tuple(
            AcceptedRequest(call.start.request_id or "", f"m-{n}", ORG)
            for n, call in enumerate(calls)
        ),
        outcomes=(),
        usage=tuple(lines or ()),
        calls=tuple(calls),
        ledger=LedgerState(0, {}),
    )


_REFUSED: Final = Exchange(5.0, 5.1, "402 BUDGET_EXCEEDED", "r-9")
_TWO_ENDED: Final = [_call("r-1", 1.0, 2.0), _call("r-2", 1.0, 2.0)]


@pytest.mark.parametrize(
    ("budget", "calls", "lines", "is_wrong"),
    [
        (2 * COST + WORST, _TWO_ENDED, [], True),
        (2 * COST + WORST - 1, _TWO_ENDED, [], False),
        (WORST, [_call("r-1", 6.0, 7.0)], [], True),
        (2 * WORST - 1, [_call("r-1", 1.0, None)], [], False),
        (2 * WORST - 1, [_call("r-1", 1.0, 9.0)], [], False),
        (2 * WORST - 1, [_call("r-1", 1.0, 2.0)], [_line("r-1", WORST, estimated=True)], False),
        (2 * WORST - 1, [_call("r-1", 1.0, 2.0)], [_line("r-1", COST, estimated=False)], True),
    ],
    ids=[
        "all of it fits",
        "it does not fit",
        "what is called later does not count",
        "what never ended may cost all",
        "what ran may cost all",
        "what was written off cost all",
        "what is known cost what it did",
    ],
)
def test_a_refusal_is_judged_by_what_backends_had_done(
    budget: int, calls: list[Call], lines: list[UsageLine], *, is_wrong: bool
) -> None:
    """A 402 is right once the money is gone, or may be."""
    evidence = _evidence(calls, [_client(ORG, _REFUSED)], lines)
    found = wrong_refusals(evidence, [Ceiling(ORG, "nano_usd", budget)], WORST, CLOCK)

    assert bool(found) is is_wrong


@pytest.mark.parametrize(
    ("booked", "is_wrong"),
    [(2 * COST, False), (2 * COST - 1, True), (2 * COST + 1, True), (0, True)],
)
def test_what_is_booked_is_what_backends_logged(booked: int, *, is_wrong: bool) -> None:
    """To the nano-dollar, where nothing was estimated."""
    assert bool(misbooked(_evidence(_TWO_ENDED, []), {ORG: booked}, "tables")) is is_wrong


@pytest.mark.parametrize(("more", "is_wrong"), [(0, False), (WORST, False), (WORST + 1, True)])
def test_an_estimate_explains_no_more_than_itself(more: int, *, is_wrong: bool) -> None:
    """Its call may have been cut off by a kill."""
    evidence = _evidence(_TWO_ENDED, [], [_line("r-2", WORST, estimated=True)])

    assert bool(misbooked(evidence, {ORG: 2 * COST + more}, "tables")) is is_wrong


def test_a_key_is_answered_as_it_was() -> None:
    """By the same request, with the same text."""
    first = Exchange(1.0, 2.0, OK, "r-1", "hash", COST)

    assert wrong_replay(Replay("m", first, replace(first, sent_s=9.0, ended_s=9.1))) is None
    for other in (
        replace(first, request_id="r-2"),
        replace(first, text_sha256="another"),
        replace(first, result="503 SERVICE_UNAVAILABLE"),
    ):
        assert wrong_replay(Replay("m", first, other)) is not None


def test_a_shard_is_watched_until_its_books_are_whole() -> None:
    """One that was closed too shortly to be seen is known by its epoch; one that was not has nothing."""
    watch = ShardWatch(state_dir=None)  # type: ignore[arg-type]  # nothing is looked at here
    open_ = Meta(1, is_ready=True, has_claims=True, is_complete=True)
    watch.note({0: open_, 1: open_, 2: open_}, 1.0)
    watch.note({1: open_, 2: replace(open_, epoch=2)}, 2.0)
    watch.note({0: replace(open_, epoch=2, has_claims=False, is_complete=False), 1: open_}, 3.0)
    watch.note({0: replace(open_, epoch=2, is_complete=False), 1: open_}, 4.0)
    again = watch.reopened(1.5)

    assert again[0] == Reopened(2, 3.0, 4.0, None)
    assert again[1] is None
    assert again[2] is not None


def test_a_late_no_is_found() -> None:
    """Above ten seconds for those who came before it was known, far less for those who came later."""
    late = Exchange(1.0, 14.0, "503 OVERLOADED")
    known = Exchange(20.0, 24.0, "503 OVERLOADED")
    fine = [Exchange(1.0, 12.0, "503 x"), Exchange(20.0, 20.1, "503 x"), Exchange(20.0, 29.0, OK)]
    polled = Exchange(20.0, 28.0, "job failed: x")

    found = list(slow_refusals([_client(ORG, late, known, *fine, polled)], 0.0, 60.0))

    assert [text.partition(": ")[2] for text in found] == [
        "503 OVERLOADED after 13.0 s",
        "503 OVERLOADED after 4.0 s",
    ]


def test_the_table_counts_answers_by_the_second_in_which_they_came() -> None:
    """From the fault on; seconds without any are there too."""
    tries = [
        Exchange(9.0, 9.5, OK),
        Exchange(10.0, 12.25, OK),
        Exchange(12.0, 12.5, "503 OVERLOADED"),
        Exchange(12.0, 12.5, "402 BUDGET_EXCEEDED"),
        Exchange(12.0, 12.5, "timeout"),
        Exchange(12.0, 12.5, "stream: RESULT_LOST"),
    ]
    lines = render_seconds(seconds_of([_client(ORG, *tries)], 10.0), -1, 2).splitlines()

    assert lines[0].split() == [
        "second", "ok", "402", "429", "503", "504", "other", "no", "answer", "slowest", "s",
    ]  # fmt: skip
    assert [line.split() for line in lines[1:]] == [
        ["-1", "1", ".", ".", ".", ".", ".", ".", "0.50"],
        ["0", ".", ".", ".", ".", ".", ".", ".", "0.00"],
        ["1", ".", ".", ".", ".", ".", ".", ".", "0.00"],
        ["2", "1", "1", ".", "1", ".", "1", "1", "2.25"],
    ]


def test_an_overspend_is_counted_by_what_backends_did() -> None:
    """Of every organization for itself: what one left unspent is no room for another."""
    budgets = (Ceiling(ORG, "nano_usd", 2 * COST - 7), Ceiling("other", "nano_usd", WORST))
    evidence = replace(_evidence(_TWO_ENDED, []), ceilings=budgets)

    assert overspend(evidence) == 7


def test_a_loss_where_nothing_stood_shows_nothing() -> None:
    """Every primary and every shard holds organizations, or it is told."""
    assert not list(unheld({"a": {0: 3, 1: 2}, "b": {2: 1}}, [0, 1, 2]))
    assert list(unheld({"a": {0: 3}, "b": {}}, [0, 1])) == [
        "b held no organization",
        "shard 1 held no organization",
    ]


def test_a_verification_names_what_differs() -> None:
    """And what could not be compared, and its own failure; nothing where all is equal."""
    answer = {"difference": 0, "differences": [], "shards": [{"shard": 0, "state": "equal"}]}
    other = {"difference": 7, "differences": [{"org": ORG}], "shards": []}
    late = answer | {"shards": [{"shard": 1, "state": "closed", "why": "empty"}]}

    assert read_verify(0, json.dumps(answer), "") == FullVerify(0, 0, ())
    assert read_verify(1, json.dumps(other), "").findings == ('{"org": "acme"}', "difference 7")
    assert read_verify(3, json.dumps(late), "").findings == ("shard 1 is closed: empty",)
    assert read_verify(1, "", "no stack runs").difference is None
    assert read_verify(1, json.dumps(answer), "odd").findings == ("exit code 1: odd",)


def test_as_much_is_spent_before_a_loss_whatever_the_load() -> None:
    """Half the rate, or five times the time: half the budget, or five times."""
    plain = tight(Loads(100.0, 30.0, 60.0), 0.0)
    slower = tight(Loads(50.0, 30.0, 60.0), 0.0)
    later = tight(Loads(100.0, 30.0, 60.0), 120.0)

    assert [tenant.limit for tenant in plain[:4]] == list(BUDGETS_NANO_USD)
    assert [2 * tenant.limit for tenant in slower] == [tenant.limit for tenant in plain]
    assert [tenant.limit for tenant in later] == [5 * tenant.limit for tenant in plain]


def test_all_scenarios_run_wherever_they_can() -> None:
    """A replica is promoted where there is one."""
    named = [str(task) for task in tasks([], [1, 3], Loads(1.0, 1.0, 1.0))]

    assert "rolled-back-1" in named
    assert "rolled-back-3" in named
    assert "zombie-3" in named
    assert "zombie-1" not in named

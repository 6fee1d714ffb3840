"""When a budget service is asked, and what holds between."""

from __future__ import annotations

from limiter_worker.external_budget import standing as module
from limiter_worker.external_budget.standing import ASK, Standing, Unanswered
from limiter_worker.external_budget.verdicts import Verdict
from schemas.entities import BudgetService

ALLOW = BudgetService(while_down="allow")
WHO = ("acme", "k1")
OTHER = ("acme", "k2")
ANSWER = Verdict("asked", "org", ceiling_nano_usd=7)


def _unanswered(standing: Standing, who: tuple[str, str], now_s: float) -> Unanswered:
    found = standing.look(who, ALLOW, now_s)
    assert isinstance(found, Unanswered)
    return found


def test_an_answer_holds_for_as_long_as_it_says() -> None:
    """From then on it is asked for again."""
    standing = Standing()
    assert standing.look(WHO, ALLOW, 0.0) == ASK
    standing.answered(WHO, ANSWER, 1.0, 0.0)

    assert standing.look(WHO, ALLOW, 0.99) == ANSWER.again("cached")
    assert standing.look(WHO, ALLOW, 1.0) == ASK
    assert standing.look(OTHER, ALLOW, 0.5) == ASK


def test_whose_question_failed_waits_no_more() -> None:
    """The policy holds, and a question that nobody waits for is due a second later, once."""
    standing = Standing()
    assert standing.failed(WHO, 0.0)

    assert not _unanswered(standing, WHO, 0.9).is_due
    assert _unanswered(standing, WHO, 1.0).is_due
    standing.asking(WHO, 1.0)
    assert not _unanswered(standing, WHO, 1.5).is_due
    assert standing.look(OTHER, ALLOW, 1.5) == ASK


def test_three_failures_open_the_breaker_for_the_organization() -> None:
    """Then no key of it waits, and one question is out at a time, ever more rarely."""
    standing = Standing()
    for number in range(3):
        standing.failed(("acme", f"k{number}"), 0.0)

    assert _unanswered(standing, ("acme", "new"), 0.5) == (Verdict("policy", "org"), False)
    assert _unanswered(standing, ("acme", "new"), 1.0).is_due
    standing.asking(("acme", "new"), 1.0)
    assert not _unanswered(standing, OTHER, 1.5).is_due
    for _ in range(10):
        standing.failed(OTHER, 2.0)
    assert not _unanswered(standing, OTHER, 9.9).is_due
    assert _unanswered(standing, OTHER, 10.0).is_due
    assert standing.look(("globex", "k"), ALLOW, 1.0) == ASK


def test_an_answer_closes_it() -> None:
    """And is told from the first failure, so that each is said once."""
    standing = Standing()
    assert [standing.failed(WHO, 0.0) for _ in range(4)] == [True, False, False, False]
    assert standing.silent(0.0) == 1

    assert standing.answered(WHO, ANSWER, 1.0, 2.0)
    assert not standing.answered(WHO, ANSWER, 1.0, 3.0)
    assert standing.silent(3.0) == 0
    assert standing.look(OTHER, ALLOW, 3.0) == ASK


def test_who_asks_no_more_is_silent_for_a_minute_and_no_longer() -> None:
    standing = Standing()
    standing.failed(WHO, 0.0)

    assert standing.silent(60.0) == 1
    assert standing.silent(62.0) == 0


def test_of_many_keys_the_latest_are_remembered(monkeypatch: object) -> None:
    """The bound holds whoever comes."""
    standing = Standing()
    for number in range(module.KNOWN_MAX + 10):
        standing.answered(("acme", f"k{number}"), ANSWER, 1.0, 0.0)

    assert len(standing) == module.KNOWN_MAX
    assert standing.look(("acme", "k0"), ALLOW, 0.5) == ASK
    assert standing.look(("acme", f"k{module.KNOWN_MAX}"), ALLOW, 0.5) == ANSWER.again("cached")

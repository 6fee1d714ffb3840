"""For whom, how long and under what a final verdict holds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ingress.gatekeeper.final_verdicts import Asked, FinalVerdicts
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.events import Denial, Reach

WHO = ("key_a", "echo")
DAY_MS = 86_400_000
SPENT = Refusal(
    ErrorCode.BUDGET_EXCEEDED,
    "Budget spent: org:budget:total",
    status_override=402,
    denial=Denial(
        limit_id="org:budget:total",
        limit_type="budget",
        unit="nano_usd",
        current_usage=9,
        limit=10,
    ),
)


def _asked(inputs: int = 100, outputs: int = 50, **more: Any) -> Asked:
    asked = Asked(inputs, outputs, body_bytes=inputs, config_offset=7, received_at_ms=1_000)
    return msgspec.structs.replace(asked, **more)


def _spent() -> FinalVerdicts:
    verdicts = FinalVerdicts()
    verdicts.note(WHO, _asked(), SPENT, 10.0)
    return verdicts


def test_a_request_that_asks_for_as_much_gets_the_same_refusal() -> None:
    """Whole, so that its client cannot tell the difference."""
    assert _spent().refusal_of(WHO, _asked(), 10.9) is SPENT
    assert _spent().refusal_of(WHO, _asked(200, 60), 10.9) is SPENT


@pytest.mark.parametrize(
    ("who", "asked"),
    [
        pytest.param(("key_b", "echo"), _asked(), id="another key"),
        pytest.param(("key_a", "other"), _asked(), id="another model"),
        pytest.param(WHO, _asked(inputs=99), id="less input"),
        pytest.param(WHO, _asked(outputs=49), id="less output"),
        pytest.param(WHO, _asked(config_offset=8), id="a newer configuration"),
        pytest.param(WHO, _asked(received_at_ms=DAY_MS), id="another day"),
        pytest.param(WHO, _asked(reach=Reach(service_tier="flex")), id="a cheaper service tier"),
    ],
)
def test_what_may_fit_asks_for_itself(who: tuple[str, str], asked: Asked) -> None:
    """Even within the second."""
    assert _spent().refusal_of(who, asked, 10.1) is None


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(msgspec.structs.replace(SPENT, status_override=429), id="contended"),
        pytest.param(Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, ""), id="rate"),
        pytest.param(Refusal(ErrorCode.SERVICE_UNAVAILABLE, ""), id="unavailable"),
        pytest.param(None, id="admitted"),
    ],
)
def test_nothing_else_is_remembered(refusal: Refusal | None) -> None:
    """It may change by itself."""
    verdicts = FinalVerdicts()
    verdicts.note(WHO, _asked(), refusal, 10.0)

    assert verdicts.refusal_of(WHO, _asked(), 10.1) is None


def test_after_a_second_one_request_asks_again() -> None:
    """The others are answered as before until it knows."""
    verdicts = _spent()

    answers = [verdicts.refusal_of(WHO, _asked(), 11.0) for _ in range(3)]

    assert answers == [None, SPENT, SPENT]


def test_large_requests_ask_seldom() -> None:
    """A body of 4 MiB goes into the log once a minute at most; small ones ask on."""
    verdicts, size = _spent(), 4 * 1024 * 1024

    assert verdicts.refusal_of(WHO, _asked(inputs=size), 73.0) is SPENT
    assert verdicts.refusal_of(WHO, _asked(), 73.0) is None
    assert verdicts.refusal_of(WHO, _asked(inputs=size), 136.9) is SPENT
    assert verdicts.refusal_of(WHO, _asked(inputs=size), 137.1) is None


def test_a_picture_asks_as_seldom_as_its_bytes_are_many() -> None:
    """However few tokens it is bound to: it is the log that is to be spared."""
    picture = _asked(body_bytes=4 * 1024 * 1024)

    assert _spent().refusal_of(WHO, picture, 73.0) is SPENT


def test_a_larger_request_does_not_raise_what_is_known_to_be_refused() -> None:
    """What is spent for less is spent for more."""
    verdicts = _spent()
    verdicts.note(WHO, _asked(500, 500), SPENT, 10.5)

    assert verdicts.refusal_of(WHO, _asked(), 11.4) is SPENT


def test_an_admission_ends_the_verdict() -> None:
    """A correction has made room, or accounting has."""
    verdicts = _spent()
    verdicts.note(WHO, _asked(200, 60), None, 10.2)

    assert verdicts.refusal_of(WHO, _asked(), 10.3) is None


def test_a_smaller_admission_says_nothing_about_larger_requests() -> None:
    """It fitted into what is left."""
    verdicts = _spent()
    verdicts.note(WHO, _asked(1, 1), None, 10.2)

    assert verdicts.refusal_of(WHO, _asked(), 10.3) is SPENT

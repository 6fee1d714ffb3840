"""The published contract of the budget service is what the gateway sends and reads."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import yaml

from accounting.spend_lines import spend_line
from limiter_worker.limits import check_of
from schemas.budget_service import (
    CHECK_PATH,
    SPEND_PATH,
    OddAnswer,
    Spend,
    SpendLine,
    read_answer,
    spend_balance,
)
from schemas.events import Booking
from tests.support.calls_in_code import ROOT
from tests.support.events import accepted, attempt, configuration, finished
from tests.support.json_schema import is_valid

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (ROOT / "docs/reference/budget-service.openapi.yaml").read_text(encoding="utf-8")
)
_JSON = "application/json"
_DENY = {"decision": "deny", "limit_type": "budget", "current_usage": "9.99", "limit": "10"}


def _sent(path: str) -> dict[str, Any]:
    body: dict[str, Any] = DOCUMENT["paths"][path]["post"]["requestBody"]["content"][_JSON]
    return dict(body["schema"])


def _answered() -> dict[str, Any]:
    answer: dict[str, Any] = DOCUMENT["paths"][CHECK_PATH]["post"]["responses"]["200"]["content"]
    return dict(answer[_JSON]["schema"])


def test_it_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert set(DOCUMENT["paths"]) == {CHECK_PATH, SPEND_PATH}


@pytest.mark.parametrize("who", [{}, {"project": None, "user": None}])
def test_the_question_is_as_published(who: dict[str, None]) -> None:
    """With the fields of the issue, all of them and no other."""
    check = json.loads(msgspec.json.encode(check_of(accepted(**who), configuration())))
    published = DOCUMENT["components"]["schemas"]["Check"]

    assert is_valid(check, _sent(CHECK_PATH), DOCUMENT)
    assert set(check) == set(published["properties"]) == set(published["required"])
    assert set(check) == {
        "request_id", "org", "project", "key", "user", "model", "bound_tokens", "bound_usd",
    }  # fmt: skip


@pytest.mark.parametrize("amount", [1, 10**15, -5])
def test_spend_is_as_published(amount: int) -> None:
    """Also what is taken back."""
    booked = Booking(key=spend_balance("org"), unit="nano_usd", amount=amount)
    line = spend_line(finished([attempt()], [booked]))
    assert isinstance(line, SpendLine)
    sent = json.loads(msgspec.json.encode(Spend(lines=(line,))))

    assert is_valid(sent, _sent(SPEND_PATH), DOCUMENT)
    assert not is_valid({"lines": []}, _sent(SPEND_PATH), DOCUMENT)


@pytest.mark.parametrize(
    "answer",
    [
        {"decision": "allow"},
        {"decision": "allow", "remaining_usd": "10.000000001", "valid_for_ms": 1_000},
        {"decision": "allow", "remaining_usd": None, "retry_after": None},
        {"decision": "allow", "remaining_usd": "-1"},
        {"decision": "allow", "remaining_usd": 1},
        {"decision": "allow", "remaining_usd": "1e3"},
        {"decision": "allow", "remaining_usd": "NaN"},
        {"decision": "allow", "limit_type": "tokens"},
        {"decision": "allow", "valid_for_ms": -1},
        {"decision": "allow", "valid_for_ms": 2**53},
        {"decision": "allow", "valid_for_ms": "1000"},
        {"decision": "allow", "unknown": [1]},
        {"decision": "deny"},
        _DENY,
        _DENY | {"retry_after": 30, "valid_for_ms": 0},
        _DENY | {"retry_after": -1},
        _DENY | {"retry_after": "soon"},
        _DENY | {"current_usage": 9.99},
        _DENY | {"limit": None},
        _DENY | {"limit_type": "rate_limit", "current_usage": "3", "limit": "3"},
        {"decision": "perhaps"},
        {},
        [],
        "allow",
    ],
)
def test_what_is_read_is_what_is_published(answer: Any) -> None:
    """A service that keeps the document is understood, and nothing else is."""
    try:
        read_answer(json.dumps(answer).encode())
    except OddAnswer:
        is_read = False
    else:
        is_read = True

    assert is_valid(answer, _answered(), DOCUMENT) is is_read

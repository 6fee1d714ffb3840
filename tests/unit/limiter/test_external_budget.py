"""Questions to the budget service, beside the line: who waits for one, who does not, and what it costs the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
import pytest

from limiter_worker.external_budget import external_budget as module
from limiter_worker.external_budget.counted import CountedSpend
from limiter_worker.external_budget.external_budget import WAITING_OF_ORG
from schemas.config_state import Snapshot, prices_of
from schemas.entities import BudgetService, Limits, Organization
from schemas.events import AuditRecorded, RequestAdmitted, RequestFinished
from schemas.ledger.errors import LedgerUnavailable
from schemas.runtime import budget_service as runtime
from schemas.runtime.budget_service import ServiceSilent
from schemas.topics import AUDIT, DISPATCH, OUTCOMES
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import FakeConfig, Limiter, ModelLedger
from tests.unit.limiter.admission_scene import dispatched_ids, new_request, statuses

SPENT = {
    "decision": "deny",
    "limit_type": "budget",
    "current_usage": "10",
    "limit": "10",
    "retry_after": 60,
    "valid_for_ms": 1_000,
}


@dataclass
class FakeService:
    """Answers what it is told to, once its gate is open."""

    answer: dict[str, Any] = field(default_factory=lambda: {"decision": "allow"})
    timeout_s: float = 1.0
    status: int = 200
    asked: list[dict[str, Any]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        assert path == "/v1/check"
        self.asked.append(msgspec.json.decode(body))
        await self.gate.wait()
        if self.status == 0:
            raise ServiceSilent("gone")
        return self.status, msgspec.json.encode(self.answer)

    async def close(self) -> None: ...


@dataclass
class FakeCounted:
    nano: int = 0
    failure: Exception | None = None

    async def nano_usd(self, org: str, balance: str) -> int:
        if self.failure:
            raise self.failure
        return self.nano


def _config(while_down: str = "deny", limits: Limits | None = None) -> Snapshot:
    snapshot = configuration(org=limits or Limits())
    stated = BudgetService(while_down=cast("Any", while_down))
    asked = Organization(limits=limits or Limits(), budget_service=stated)
    return replace(snapshot, organizations={**snapshot.organizations, "acme": asked})


def _limiter(service: FakeService | None, config: Snapshot | None = None) -> Limiter:
    if service is not None:
        service.gate.set()
    return Limiter(
        ModelLedger(),
        FakeConfig(config or _config()),
        service=cast("runtime.BudgetService | None", service),
        counted=cast("CountedSpend", FakeCounted()),
    )


def _refusals(limiter: Limiter) -> Iterator[RequestFinished]:
    return (e for e in limiter.producer.events(OUTCOMES) if isinstance(e, RequestFinished))


async def test_one_question_is_asked_for_all_of_a_key_and_for_a_second() -> None:
    """What it asks is the first request; the others go by the same answer."""
    service = FakeService()
    limiter = _limiter(service)
    await limiter.handle(*(limiter.record(new_request(n)) for n in range(5)))
    await limiter.handle(limiter.record(new_request(9)))

    assert dispatched_ids(limiter) == ["r0", "r1", "r2", "r3", "r4", "r9"]
    (asked,) = service.asked
    assert list(asked) == [
        "request_id", "org", "project", "key", "user", "model", "bound_tokens", "bound_usd",
    ]  # fmt: skip
    assert (asked["request_id"], asked["org"]) == ("r0", "acme")
    assert asked["bound_tokens"] == 1_500
    assert asked["bound_usd"] == "0.005000000"


async def test_who_comes_to_wait_when_the_answer_is_there_asks_nobody() -> None:
    """It was answered beside its batch."""
    service = FakeService()
    limiter = _limiter(service)
    parts = limiter.parts()
    batches = [[limiter.record(new_request(n)).as_record()] for n in range(2)]
    left = [
        each
        for batch in batches
        for each in await parts.admission.admit(parts.admission.take(batch))
    ]
    for each in left:
        parts.budget.add(each.taken)
        await parts.budget.settled()

    assert len(service.asked) == 1
    assert [taken.verdict and taken.verdict.source for taken in parts.returned] == [
        "asked",
        "cached",
    ]


async def test_other_organizations_ask_nobody() -> None:
    """Not one question, and no balance more."""
    service = FakeService()
    limiter = _limiter(service, configuration())
    await limiter.handle(limiter.record(new_request(1)))

    assert service.asked == []
    (event,) = limiter.producer.events(DISPATCH)
    assert isinstance(event, RequestAdmitted)
    assert all("service" not in hold.key for hold in event.holds)


async def test_who_must_wait_holds_up_nobody_of_the_same_batch() -> None:
    """The batch goes on without it."""
    service = FakeService()
    limiter = _limiter(service)
    service.gate.clear()
    parts = limiter.parts()
    config = limiter.config.snapshot
    others = {**config.organizations, "globex": Organization()}
    limiter.config.snapshot = replace(config, organizations=others)
    records = [
        limiter.record(new_request(1)),
        limiter.record(msgspec.structs.replace(new_request(2), org="globex")),
    ]
    left = await parts.admission.admit(parts.admission.take([r.as_record() for r in records]))

    assert [(each.why, each.taken.accepted.request.request_id) for each in left] == [
        ("budget", "r1")
    ]
    assert dispatched_ids(limiter) == ["r2"]
    assert parts.budget.add(left[0].taken)
    assert parts.returned == []
    service.gate.set()
    await parts.budget.settled()
    assert [taken.verdict is not None for taken in parts.returned] == [True]


async def test_a_denial_is_told_with_the_figures_of_the_service_and_takes_nothing() -> None:
    """402, and the auditors hear the verdict and its source."""
    limiter = _limiter(FakeService(SPENT), _config(limits=Limits(tokens_per_min=10_000)))
    await limiter.handle(limiter.record(new_request(1)))
    await limiter.handle(limiter.record(new_request(2)))
    first, second = _refusals(limiter)
    ledger = cast("ModelLedger", limiter.ledger)

    assert (first.http_status, first.error_code) == (402, "BUDGET_EXCEEDED")
    assert first.denial is not None
    assert second.denial is not None
    assert (first.denial.current_usage, first.denial.limit) == (10**10, 10**10)
    assert first.denial.retry_after_ms == 60_000
    assert first.denial.limit_id == "budget_service:deny:asked"
    assert second.denial.limit_id == "budget_service:deny:cached"
    audits = [e for e in limiter.producer.events(AUDIT) if isinstance(e, AuditRecorded)]
    assert [msgspec.json.decode(e.detail)["limit_id"] for e in audits] == [
        "budget_service:deny:asked",
        "budget_service:deny:cached",
    ]
    assert not any(ledger.model.limits.balances.values())
    assert ledger.model.limits.buckets == {}


async def test_rates_come_first() -> None:
    """Who is refused by a rate is not told of a budget."""
    slow = Limits(requests_per_s=0.001, burst=1)
    limiter = _limiter(FakeService(), _config(limits=slow))
    await limiter.handle(limiter.record(new_request(1)))
    limiter.service = cast("Any", FakeService(SPENT))
    limiter.standing._known.clear()
    cast("Any", limiter.service).gate.set()
    await limiter.handle(limiter.record(new_request(2)))
    (refused,) = _refusals(limiter)

    assert refused.error_code == "RATE_LIMIT_EXCEEDED"
    assert refused.denial is not None
    assert refused.denial.limit_id == "org:requests_per_s"


async def test_holds_count_against_a_remainder() -> None:
    """Three fit, whatever the service knows of them; the fourth would fit once one returns."""
    remaining = {
        "decision": "allow",
        "limit_type": "budget",
        "current_usage": "1",
        "limit": "1.015",
    }
    limiter = _limiter(FakeService(remaining | {"remaining_usd": "0.015"}))
    await limiter.handle(*(limiter.record(new_request(n)) for n in range(4)))
    (refused,) = _refusals(limiter)

    assert dispatched_ids(limiter) == ["r0", "r1", "r2"]
    assert (refused.http_status, refused.error_code) == (429, "BUDGET_EXCEEDED")
    assert refused.denial is not None
    assert (refused.denial.current_usage, refused.denial.limit) == (1_015_000_000, 1_015_000_000)


@pytest.mark.parametrize(
    ("while_down", "status"),
    [("allow", None), ("deny", ("refused", 503)), ("last_known", ("refused", 503))],
)
@pytest.mark.parametrize("trouble", ["gone", "500", "odd", "defect", "ledger", "nobody"])
async def test_silence_is_decided_by_policy(
    while_down: str, status: tuple[str, int] | None, trouble: str
) -> None:
    """Whatever kind of silence it is; it costs nobody more than the one question."""
    service = FakeService(status={"gone": 0, "500": 500}.get(trouble, 200))
    limiter = _limiter(None if trouble == "nobody" else service, _config(while_down))
    if trouble == "odd":
        service.answer = {"decision": "allow", "remaining_usd": 1}
    failures = {"defect": ZeroDivisionError(), "ledger": LedgerUnavailable("away")}
    limiter.counted = cast("CountedSpend", FakeCounted(failure=failures.get(trouble)))
    await limiter.handle(limiter.record(new_request(1)))
    await limiter.handle(limiter.record(new_request(2)))

    assert statuses(limiter) == ({} if status is None else {"r1": status, "r2": status})
    assert dispatched_ids(limiter) == (["r1", "r2"] if status is None else [])
    assert len(service.asked) <= 1


async def test_the_last_verdict_holds_on_while_the_service_is_silent() -> None:
    """With its remainder, which holds and bookings still count against."""
    service = FakeService({"decision": "allow", "remaining_usd": "0.010", "valid_for_ms": 0})
    limiter = _limiter(service, _config("last_known"))
    await limiter.handle(limiter.record(new_request(1)))
    service.status = 500
    await asyncio.sleep(0.11)
    await limiter.handle(limiter.record(new_request(2)))
    await limiter.handle(limiter.record(new_request(3)))
    (refused,) = _refusals(limiter)

    assert dispatched_ids(limiter) == ["r1", "r2"]
    assert refused.request_id == "r3"
    assert refused.denial is not None
    assert refused.denial.limit_id == "budget_service:remainder:last_known"


async def test_auditors_hear_when_silence_begins_and_ends() -> None:
    """Once each, with the policy that held between."""
    service = FakeService(status=0)
    limiter = _limiter(service, _config("allow"))
    await limiter.handle(limiter.record(new_request(1)))
    service.status = 200
    limiter.standing._known["acme", "key_a"].again_s = 0.0
    await limiter.handle(limiter.record(new_request(2)))
    await asyncio.sleep(0.01)
    await limiter.handle(limiter.record(new_request(3)))
    audits = [e for e in limiter.producer.events(AUDIT) if isinstance(e, AuditRecorded)]

    assert [e.action for e in audits] == ["budget_service_silent", "budget_service_answers"]
    assert all(msgspec.json.decode(e.detail) == {"while_down": "allow"} for e in audits)


async def test_who_finds_too_many_waiting_is_told_to_come_back() -> None:
    """503 with a hint at once; a job comes again by itself."""
    service = FakeService()
    limiter = _limiter(service)
    service.gate.clear()
    parts = limiter.parts()
    records = [limiter.record(new_request(n)) for n in range(WAITING_OF_ORG + 1)]
    job = limiter.record(new_request(999, background=True))
    left = await parts.admission.admit(
        parts.admission.take([r.as_record() for r in (*records, job)])
    )
    took = [parts.budget.add(each.taken) for each in left]

    assert took == [True] * (WAITING_OF_ORG + 1) + [False]
    (over,) = parts.returned
    assert over.decline is not None
    assert over.decline.why == "overloaded"
    assert len(service.asked) == 0 or len(parts.budget) == WAITING_OF_ORG
    service.gate.set()
    await parts.budget.settled()
    assert len(parts.returned) == WAITING_OF_ORG + 1
    assert len(parts.budget) == 0


async def test_an_organization_has_few_questions_out_whatever_it_has_of_keys() -> None:
    """So one that hangs leaves places to the others."""
    service = FakeService()
    limiter = _limiter(service)
    service.gate.clear()
    parts = limiter.parts()
    requests = [msgspec.structs.replace(new_request(n), key_id=f"key_{n}") for n in range(20)]
    records = [limiter.record(each) for each in requests]
    config = limiter.config.snapshot
    keys = {**config.keys, **{each.key_id: config.keys["key_a"] for each in requests}}
    limiter.config.snapshot = replace(config, keys=keys)
    for each in await parts.admission.admit(parts.admission.take([r.as_record() for r in records])):
        parts.budget.add(each.taken)
    await asyncio.sleep(0.05)

    assert len(service.asked) == module._ASKED_OF_ORG
    service.gate.set()
    await parts.budget.settled()
    assert len(service.asked) == 20
    assert parts.budget._places._of_org == {}


async def test_what_was_revoked_is_forgotten() -> None:
    """The next owner reads it again; the answer is for nobody then."""
    service = FakeService()
    limiter = _limiter(service)
    service.gate.clear()
    parts = limiter.parts()
    record = limiter.record(new_request(1))
    for each in await parts.admission.admit(parts.admission.take([record.as_record()])):
        parts.budget.add(each.taken)
    await parts.budget.forget()
    service.gate.set()
    await parts.budget.settled()

    assert parts.returned == []
    assert len(parts.budget) == 0


async def test_a_model_without_a_price_is_refused_and_nobody_is_asked() -> None:
    """Its remainder could not be kept."""
    service = FakeService()
    limiter = _limiter(service)
    config = limiter.config.snapshot
    request = new_request(1)
    free = msgspec.structs.replace(
        config.models[request.model],
        input_usd_per_mtok=None,
        cached_input_usd_per_mtok=None,
        output_usd_per_mtok=None,
    )
    limiter.config.snapshot = replace(
        config,
        models={**config.models, request.model: free},
        prices={**config.prices, request.model: prices_of(request.model, free, 1)},
    )
    await limiter.handle(limiter.record(request))
    (refused,) = _refusals(limiter)

    assert refused.error_code == "model_unpriced"
    assert service.asked == []
    assert accepted().model == request.model

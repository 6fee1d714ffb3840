"""Asks an external budget service, beside the line of requests: who waits for an answer holds up nobody.

One question per organization and key is under way at a time, a few per organization, a few dozen in all; each ends
within its deadlines, one for what is counted and one for the answer, or with the policy that the operator stated. Requests that wait are counted: what
would be too much is told to come back.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from limiter_worker.audit_trail import AuditTrail
from limiter_worker.external_budget.counted import CountedSpend
from limiter_worker.external_budget.standing import ASK, Standing, Unanswered, Who
from limiter_worker.external_budget.verdicts import Verdict, scope_of, stated_for, verdict_of
from limiter_worker.limits import check_of
from limiter_worker.taken import Taken
from schemas.budget_service import (
    CHECK_PATH,
    Answer,
    Check,
    OddAnswer,
    read_answer,
    spend_balance,
    valid_for_s,
)
from schemas.entities import BudgetService
from schemas.events import AuditRecorded
from schemas.failures import Failure
from schemas.ledger.documents import Decline
from schemas.log_events import LogEvent
from schemas.runtime.budget_service import BudgetService as Service
from schemas.runtime.budget_service import ServiceSilent
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics

_LOG = EventLog(__name__)

WAITING_OF_ORG: Final = 128
WAITING_MAX: Final = 512
"""Half of what a partition may have under way, so that none is paused for it."""
_ASKED_OF_ORG: Final = 4
_ASKED_AT_ONCE: Final = 32
_UNDER_WAY_MAX: Final = 1_024
_TAKEN: Final = 200
_FULL: Final = Decline(why="overloaded", retry_after_ms=500)


@dataclass(slots=True)
class _Places:
    """How many questions are out, in all and of an organization."""

    _all: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_ASKED_AT_ONCE))
    _of_org: dict[str, tuple[asyncio.Semaphore, int]] = field(default_factory=dict)

    @asynccontextmanager
    async def one(self, org: str) -> AsyncIterator[None]:
        """A place, once one is free: first beside those of the organization, then beside all others."""
        places, waiting = self._of_org.get(org) or (asyncio.Semaphore(_ASKED_OF_ORG), 0)
        self._of_org[org] = places, waiting + 1
        try:
            async with places, self._all:
                yield
        finally:
            places, waiting = self._of_org.pop(org)
            if waiting > 1:
                self._of_org[org] = places, waiting - 1


@dataclass(slots=True)
class ExternalBudget:
    """What stands between admission and the budget service. ``again`` takes requests that have their verdict.

    Without a ``service`` it never answers.
    """

    service: Service | None
    counted: CountedSpend
    config: ConfigFeed
    trail: AuditTrail
    clock: Clock
    metrics: Metrics
    again: Callable[[Taken], None]
    standing: Standing = field(default_factory=Standing)
    _places: _Places = field(default_factory=_Places)
    _under_way: dict[Who, asyncio.Task[None]] = field(default_factory=dict)
    _waiting: defaultdict[Who, list[Taken]] = field(default_factory=lambda: defaultdict(list))
    _waiting_of: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _telling: set[asyncio.Task[None]] = field(default_factory=set)

    def __len__(self) -> int:
        return sum(self._waiting_of.values())

    def verdict(self, taken: Taken, stated: BudgetService) -> Verdict | None:
        """The verdict that holds for the request, or ``None``: it has to wait for one."""
        found = taken.verdict or self._known(taken, stated)
        if found is not None:
            self.metrics.count("tallygate_budget_verdicts_total", found.decision, found.source)
        return found

    def add(self, taken: Taken) -> bool:
        """Takes a request that has to wait, or False: a job that finds no room comes again later."""
        request = taken.accepted.request
        who = request.org, request.key_id
        if self._waiting_of.get(request.org, 0) >= WAITING_OF_ORG or len(self) >= WAITING_MAX:
            if request.background:
                return False
            self.again(msgspec.structs.replace(taken, decline=_FULL))
            return True
        stated = stated_for(self.config.snapshot, request.org)
        if stated is not None and (found := self._known(taken, stated)) is not None:
            # It was answered meanwhile, beside this one's batch.
            self.again(msgspec.structs.replace(taken, verdict=found))
            return True
        self._waiting[who].append(taken)
        self._waiting_of[request.org] += 1
        if stated is None:
            self._release(who, None)
        elif not self._begin(who, taken, stated):
            self._release(who, self.standing.policy(who, stated))
        return True

    async def forget(self, *_: Any, **__: Any) -> None:
        """The partitions were revoked: whoever owns them next reads the records again."""
        self._waiting.clear()
        self._waiting_of.clear()

    async def settled(self) -> None:
        """Returns once no question is out: each ends within its deadline."""
        while open_ones := [*self._under_way.values(), *self._telling]:
            await asyncio.wait(open_ones)

    async def close(self) -> None:
        """Before the process stops: questions end, and nothing is connected any more."""
        await self.settled()
        if self.service is not None:
            await self.service.close()

    def _known(self, taken: Taken, stated: BudgetService) -> Verdict | None:
        request = taken.accepted.request
        who = request.org, request.key_id
        if self.service is None:
            return self.standing.policy(who, stated)
        found = self.standing.look(who, stated, self.clock.monotonic_s())
        if isinstance(found, Unanswered):
            if found.is_due:
                self._begin(who, taken, stated)
            return found.verdict
        return None if found == ASK else found

    def _begin(self, who: Who, taken: Taken, stated: BudgetService) -> bool:
        """Ask, unless that is under way; whether there is something to ask."""
        if who in self._under_way:
            return True
        check = check_of(taken.accepted.request, self.config.snapshot)
        if check is None or len(self._under_way) >= _UNDER_WAY_MAX:
            return False
        self.standing.asking(who, self.clock.monotonic_s())
        self._under_way[who] = asyncio.create_task(self._ask(who, check, stated))
        return True

    async def _ask(self, who: Who, check: Check, stated: BudgetService) -> None:
        verdict: Verdict | None = None
        try:
            verdict = await self._answer(who, check, stated)
        except Exception as defect:  # noqa: BLE001  # total: one question's defect is a failed question
            self._silent(who, stated, "defect", defect)
        finally:
            self._under_way.pop(who, None)
            self._release(who, verdict or self.standing.policy(who, stated))

    async def _answer(self, who: Who, check: Check, stated: BudgetService) -> Verdict | None:
        """The verdict, or ``None`` when there is no answer in time."""
        assert self.service is not None, "nobody asks without it"
        org, scope = who[0], scope_of(stated, who[1])
        try:
            async with AsyncExitStack() as place:
                async with asyncio.timeout(self.service.timeout_s):
                    await place.enter_async_context(self._places.one(org))
                    counted = await self.counted.nano_usd(org, spend_balance(scope))
                answer = await _asked(self.service, check)
        except TimeoutError as error:
            self._silent(who, stated, "timeout", error)
            return None
        except OddAnswer as error:
            self._silent(who, stated, "odd", error)
            return None
        except Failure as error:
            self._silent(who, stated, "failed", error)
            return None
        verdict = verdict_of(answer, scope, counted)
        self.metrics.count("tallygate_budget_checks_total", "answered")
        now_s = self.clock.monotonic_s()
        if self.standing.answered(who, verdict, valid_for_s(answer), now_s):
            _LOG.event(LogEvent.BUDGET_SERVICE_ANSWERS, org=org)
            self._audit(who, stated, "budget_service_answers")
        return verdict

    def _silent(self, who: Who, stated: BudgetService, why: str, error: Exception) -> None:
        self.metrics.count("tallygate_budget_checks_total", why)
        if self.standing.failed(who, self.clock.monotonic_s()):
            _LOG.event(
                LogEvent.BUDGET_SERVICE_SILENT, org=who[0], state=stated.while_down, error=error
            )
            self._audit(who, stated, "budget_service_silent")

    def _audit(self, who: Who, stated: BudgetService, action: str) -> None:
        """From when to when an organization was decided by policy."""
        now_ms = self.clock.now_ms()
        event = AuditRecorded(
            audit_id=f"{action}:{who[0]}:{who[1]}:{now_ms}",
            org=who[0],
            action=action,
            actor=who[1],
            at_ms=now_ms,
            detail=msgspec.json.encode({"while_down": stated.while_down}).decode(),
        )
        task = asyncio.create_task(self.trail.keep([event]))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _release(self, who: Who, verdict: Verdict | None) -> None:
        waiting = self._waiting.pop(who, [])
        if waiting:
            self._waiting_of[who[0]] -= len(waiting)
            if self._waiting_of[who[0]] <= 0:
                del self._waiting_of[who[0]]
        for taken in waiting:
            self.again(msgspec.structs.replace(taken, verdict=verdict))


async def _asked(service: Service, check: Check) -> Answer:
    status, body = await service.post(CHECK_PATH, msgspec.json.encode(check))
    if status != _TAKEN:
        raise ServiceSilent(f"it answered {status}")
    return read_answer(body)

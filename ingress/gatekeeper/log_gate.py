"""The log gate: what is refused before the log of requests that were read, and what is learnt from their answers.

What a final verdict already answers, and what the throttle holds back: all that lines of batches meet. It knows what stands
behind ingress, too. All of it are look-ups in memory; every refusal of a known caller is told to the auditors.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ingress.auth.billing import limits_of_owners
from ingress.auth.caller import Caller
from ingress.gatekeeper.final_verdicts import Asked, FinalVerdicts, is_final
from ingress.gatekeeper.scouts import LARGE_BYTES, Scouts
from ingress.gatekeeper.throttle import Throttle
from ingress.http.refusals import Refusal
from schemas.audit import Bounds, RefusalTally, Refused
from schemas.errors import ErrorCode
from schemas.events import Denial
from schemas.ledger.shards import Shards
from schemas.metrics import decision_labels
from schemas.reports import Excess
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics

CONFIG_BEHIND_S: Final = 5.0


@dataclass(slots=True)
class Conditions:
    """What stands behind ingress, as it was found last; running requests finish whatever it says."""

    ledger: str | None = None
    """Why the ledger decides nothing for anybody, though it answers."""
    shards: Shards | None = None
    """All shards of the ledger; ``None`` until it is known how many there are."""
    closed: Mapping[int, str] = field(default_factory=dict)
    """Why some shards decide nothing."""
    ledger_memory: str | None = None
    """How full the ledger is, when it is too full."""
    disk: str | None = None
    """Which broker's disk is low, and how much is left of it."""
    excess: Mapping[str, Excess] = field(default_factory=dict)
    """What requests of a model hold beyond their proved bound, because its backends exceeded it lately."""

    def closing(self, config_behind_s: float) -> dict[str, str]:
        """What keeps every new request out now, by name."""
        found = {}
        if self.ledger is not None:
            found["ledger"] = self.ledger
        if self.ledger_memory is not None:
            found["ledger_memory"] = self.ledger_memory
        if self.disk is not None:
            found["broker_disk"] = self.disk
        if config_behind_s >= CONFIG_BEHIND_S:
            found["config"] = f"{config_behind_s:.0f} s behind the end of the log"
        return found

    def closed_for(self, org: str) -> str | None:
        """Why nothing is decided for an organization."""
        if not self.closed or self.shards is None:
            return None
        return self.closed.get(self.shards.of(org))


@dataclass(slots=True, kw_only=True)
class LogGate:
    """Refuses before the log, and learns from answers."""

    config: ConfigFeed
    clock: Clock
    conditions: Conditions
    metrics: Metrics
    tally: RefusalTally = field(default_factory=RefusalTally)
    throttle: Throttle = field(default_factory=Throttle)
    verdicts: FinalVerdicts = field(default_factory=FinalVerdicts)
    scouts: Scouts = field(default_factory=Scouts)

    def closing(self) -> dict[str, str]:
        """What keeps every new request out now, by name."""
        return self.conditions.closing(self.config.behind_s)

    def refuse(
        self, caller: Caller, model: str, asked: Asked, request_id: str, *, is_background: bool
    ) -> Refusal | None:
        """What stands against a request that was read and shall go into the log; the throttle holds back no background work."""
        refusal = None
        if self.verdicts.known:
            now_s = self.clock.monotonic_s()
            refusal = self.verdicts.refusal_of((_who(caller), model), asked, now_s)
        if refusal is None and self.throttle.windows and not is_background:
            now_s = self.clock.monotonic_s()
            draw = random.random()  # noqa: S311  # a share of requests, no secret
            refusal = self.throttle.refusal_of((caller.org, model), now_s, draw)
        if refusal is not None:
            bounds = asked.bounds(self.config.snapshot.prices.get(model))
            self.tell_auditors(caller, request_id, refusal, model, bounds)
        return refusal

    def must_wait(self, caller: Caller, model: str, asked: Asked) -> bool:
        """Whether another one is just finding out what would become of this large request."""
        if asked.body_bytes <= LARGE_BYTES or not self._has_ceiling(caller):
            return False
        now_s, who = self.clock.monotonic_s(), (_who(caller), model)
        if self.verdicts.is_refused(who, asked, now_s):
            return False
        return not self.scouts.may_go(who, now_s)

    def note(self, caller: Caller, model: str, asked: Asked, refusal: Refusal | None) -> None:
        """How an interactive request that went into the log was answered."""
        if refusal is None and not (
            self.verdicts.known or self.scouts.free_at_s or self.throttle.windows
        ):
            return  # A success, where nothing else is known, teaches nothing.
        now_s, who = self.clock.monotonic_s(), (_who(caller), model)
        self.verdicts.note(who, asked, refusal, now_s)
        self.scouts.note(who, now_s, is_spent=is_final(refusal))
        self.throttle.note((caller.org, model), refusal, now_s)
        if refusal is not None and refusal.denial is not None:
            self._learn(caller, refusal.denial, now_s)

    def _learn(self, caller: Caller, denial: Denial, now_s: float) -> None:
        """A limit denied a caller's request. Who keeps no limits here learns nothing from it."""

    def _has_ceiling(self, caller: Caller) -> bool:
        org = self.config.snapshot.organizations.get(caller.org)
        if org is not None and org.budget_service is not None:
            return True
        owners = limits_of_owners(caller, self.config.snapshot)
        return any(limits.budgets or limits.quotas for limits in owners)

    def tell_auditors(
        self,
        caller: Caller,
        request_id: str,
        refusal: Refusal,
        model: str | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """A request was refused here: the auditors shall know, and whoever counts decisions by limits."""
        if refusal.denial is not None:
            verdict = "limited" if refusal.code is ErrorCode.RATE_LIMIT_EXCEEDED else "refused"
            labels = decision_labels(verdict, refusal.denial)
            self.metrics.count("tallygate_limit_decisions_total", *labels)
        self.tally.add(
            Refused(
                request_id=request_id,
                org=caller.org,
                actor=_who(caller),
                code=refusal.code,
                at_ms=self.clock.now_ms(),
                denial=refusal.denial,
                model=model,
                bounds=bounds,
            )
        )


def _who(caller: Caller) -> str:
    """What is counted by, and told to auditors: nobody shares it."""
    return caller.alias or caller.key_id

"""The gate: what ingress refuses by itself, so that a flood costs its own organization and not the log.

Before the body is read: a share of ingress per organization, a local bucket of requests and of bytes. Before
the log: what the throttle holds back, and what a final verdict already answers. All of it are look-ups in
memory; every refusal is told to the auditors.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ingress.auth.api_key import Caller
from ingress.gatekeeper.final_verdicts import Asked, FinalVerdicts, is_final
from ingress.gatekeeper.local_buckets import Bucket, LocalBuckets
from ingress.gatekeeper.scouts import LARGE_BYTES, Scouts
from ingress.gatekeeper.shares import RETRY_MIN_MS, Shares
from ingress.gatekeeper.throttle import Throttle
from ingress.http.refusals import Refusal
from ingress.settings import IngressSettings
from schemas.audit import RefusalTally, Refused
from schemas.config_state import Snapshot
from schemas.entities import Limits
from schemas.errors import ErrorCode
from schemas.events import Denial
from schemas.runtime.process.clock import Clock

_WIDER_THAN_THE_LEDGER: Final = 2
_WAITING: Final = 64
"""Twice as many as may wait for a limit in the log, where the policy is to wait."""
_BURST_S: Final = 2
"""Of bytes: how many seconds' worth may come at once."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """A local bucket, and how it is told to whoever meets it."""

    name: str
    limit_id: str
    unit: str
    bucket: Bucket


@dataclass(slots=True)
class Gate:
    """Refuses, counts, and learns from answers."""

    settings: IngressSettings
    clock: Clock
    shares: Shares
    tally: RefusalTally = field(default_factory=RefusalTally)
    throttle: Throttle = field(default_factory=Throttle)
    verdicts: FinalVerdicts = field(default_factory=FinalVerdicts)
    scouts: Scouts = field(default_factory=Scouts)
    _buckets: LocalBuckets = field(default_factory=LocalBuckets)
    _known_config: Snapshot | None = None
    _known_limits: dict[str, tuple[_Limit, ...]] = field(default_factory=dict)
    """Key to its limits under the known configuration."""

    @classmethod
    def create(cls, settings: IngressSettings, clock: Clock) -> Gate:
        """The gate of one ingress."""
        return cls(settings, clock, Shares(settings.inflight_max, settings.org_share))

    def enter(
        self, caller: Caller, config: Snapshot, request_id: str, body_bytes: int
    ) -> Refusal | None:
        """Let a request in, or tell why not; who was let in must ``leave``.

        ``body_bytes`` is what it announces, 0 when it announces nothing.
        """
        refusal = self._refuse_rate(caller, config, body_bytes) or self.shares.enter(caller.org)
        if refusal is not None:
            self.tell(caller, request_id, refusal)
        return refusal

    def leave(self, caller: Caller, entered_s: float) -> None:
        """The request has been answered, or its client is gone."""
        held_ms = (self.clock.monotonic_s() - entered_s) * 1_000
        self.shares.leave(caller.org, held_ms)

    def count_body(self, caller: Caller, size_bytes: int) -> None:
        """A body that had announced no size was read."""
        limit = self._bytes_limit(caller)
        self._buckets.take(limit.name, limit.bucket, size_bytes, self.clock.monotonic_s())

    def refuse(
        self, caller: Caller, model: str, asked: Asked, request_id: str, *, is_background: bool
    ) -> Refusal | None:
        """What stands against a request that was read and shall go into the log.

        Background work is never held back by the throttle.
        """
        now_s = self.clock.monotonic_s()
        refusal = self.verdicts.refusal_of((caller.key_id, model), asked, now_s)
        if refusal is None and not is_background:
            draw = random.random()  # noqa: S311  # a share of requests, no secret
            refusal = self.throttle.refusal_of((caller.org, model), now_s, draw)
        if refusal is not None:
            self.tell(caller, request_id, refusal, model)
        return refusal

    def must_wait(self, caller: Caller, config: Snapshot, model: str, asked: Asked) -> bool:
        """Whether another one is just finding out what would become of this large request."""
        if asked.input_tokens_bound <= LARGE_BYTES or not _has_ceiling(caller, config):
            return False
        now_s, who = self.clock.monotonic_s(), (caller.key_id, model)
        if self.verdicts.is_refused(who, asked, now_s):
            return False
        return not self.scouts.may_go(who, now_s)

    def note(
        self,
        caller: Caller,
        config: Snapshot,
        model: str,
        asked: Asked,
        refusal: Refusal | None,
    ) -> None:
        """How an interactive request that went into the log was answered."""
        now_s, who = self.clock.monotonic_s(), (caller.key_id, model)
        self.verdicts.note(who, asked, refusal, now_s)
        self.scouts.note(who, now_s, is_spent=is_final(refusal))
        self.throttle.note((caller.org, model), refusal, now_s)
        denial = refusal.denial if refusal is not None else None
        if denial is None or denial.retry_after_ms is None:
            return
        for limit in self._limits_of(caller, config):
            if limit.limit_id == denial.limit_id:
                retry_after_s = denial.retry_after_ms / 1_000
                self._buckets.learn(limit.name, limit.bucket, retry_after_s, now_s)

    def _refuse_rate(self, caller: Caller, config: Snapshot, body_bytes: int) -> Refusal | None:
        limits, now_s = self._limits_of(caller, config), self.clock.monotonic_s()
        for limit in limits:
            cost = body_bytes if limit.unit == "bytes" else 1
            wait_s = self._buckets.wait_s(limit.name, limit.bucket, cost, now_s)
            if wait_s:
                return _rate_refusal(limit, wait_s)
        for limit in limits:
            cost = body_bytes if limit.unit == "bytes" else 1
            self._buckets.take(limit.name, limit.bucket, cost, now_s)
        return None

    def _limits_of(self, caller: Caller, config: Snapshot) -> tuple[_Limit, ...]:
        """The limits of a key's requests, found once for each configuration."""
        if config is not self._known_config:
            self._known_config = config
            self._known_limits.clear()
        limits = self._known_limits.get(caller.key_id)
        if limits is None:
            limits = self._known_limits[caller.key_id] = tuple(self._find_limits(caller, config))
        return limits

    def _find_limits(self, caller: Caller, config: Snapshot) -> Iterator[_Limit]:
        """Requests per second of key and organization, and bytes; what was just removed has none."""
        waiting = _WAITING if _may_wait(caller, config) else 0
        key, org = config.keys.get(caller.key_id), config.organizations.get(caller.org)
        if key is not None:
            yield self._rate_limit("key", caller.key_id, key.limits, waiting)
        if org is not None:
            yield self._rate_limit("org", caller.org, org.limits, waiting)
        yield self._bytes_limit(caller)

    def _rate_limit(self, scope: str, entity_id: str, limits: Limits, waiting: int) -> _Limit:
        per_s, burst = limits.requests_per_s, limits.burst
        if per_s is None:
            per_s = self.settings.rate_limit_default_rps
            burst = burst or self.settings.rate_limit_burst_size
        burst = burst or max(1, math.ceil(per_s))
        bucket = Bucket(per_s, burst, _WIDER_THAN_THE_LEDGER, waiting)
        limit_id = f"{scope}:requests_per_s"
        return _Limit(f"{scope}/{entity_id}", limit_id, "requests", bucket)

    def _bytes_limit(self, caller: Caller) -> _Limit:
        per_s = self.settings.key_bytes_per_s
        bucket = Bucket(per_s, _BURST_S * per_s)
        name = f"bytes/{caller.key_id}"
        return _Limit(name, "key:bytes_per_s", "bytes", bucket)

    def tell(
        self, caller: Caller, request_id: str, refusal: Refusal, model: str | None = None
    ) -> None:
        """A request was refused here: the auditors shall know."""
        self.tally.add(
            Refused(
                request_id=request_id,
                org=caller.org,
                actor=caller.key_id,
                code=refusal.code,
                at_ms=self.clock.now_ms(),
                denial=refusal.denial,
                model=model,
            )
        )


def _may_wait(caller: Caller, config: Snapshot) -> bool:
    """Whether the policy of the request is to wait for a limit, as admission reads it."""
    stated = (limits.on_limit for limits in _owners_limits(caller, config))
    return next((policy for policy in stated if policy is not None), "reject") == "defer"


def _has_ceiling(caller: Caller, config: Snapshot) -> bool:
    return any(limits.budgets or limits.quotas for limits in _owners_limits(caller, config))


def _owners_limits(caller: Caller, config: Snapshot) -> Iterator[Limits]:
    """The limits of key, user, project and organization, in this order."""
    owners = (
        config.keys.get(caller.key_id),
        config.users.get(caller.user or ""),
        config.projects.get(caller.project or ""),
        config.organizations.get(caller.org),
    )
    return (owner.limits for owner in owners if owner is not None)


def _rate_refusal(limit: _Limit, wait_s: float) -> Refusal:
    denial = Denial(
        limit_id=limit.limit_id,
        limit_type="rate_limit",
        unit=limit.unit,
        current_usage=math.ceil(limit.bucket.burst),
        limit=math.ceil(limit.bucket.per_s),
        retry_after_ms=max(RETRY_MIN_MS, math.ceil(wait_s * 1_000)),
    )
    message = f"Rate limit reached: {limit.limit_id}"
    return Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, message, denial=denial)

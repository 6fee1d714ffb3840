"""Local limits: what one ingress lets pass of a key or an organization before a body is read. Pure.

*Shares* of its places: no organization has more than its own. Near the bound of all of them together one may
only take as much as it leaves free for the others, so whoever has most is refused first and a quiet one finds
room (the dynamic threshold of shared-memory switches, Choudhury and Hahne 1998).

*Buckets* of requests and bytes are wider than the limits they stand for and only keep a flood out of the log;
the ledger decides. They are stored as theoretical arrival times (GCRA), like the ledger's own. What is told to whoever is refused is
when the *ledger* has room, as far as it is known here, each a turn of its own, so that a crowd of retries
does not come back at once.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ingress.auth.billing import limits_of_owners
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.entities import Limits
from schemas.errors import RETRY_HINT_MAX_MS, RETRY_HINT_MIN_MS, ErrorCode
from schemas.events import Denial

SHARE_LIMIT_ID: Final = "org:in_flight"
_NEAR: Final = 0.75
_NEWEST_WEIGHS: Final = 0.1
"""Of the mean duration of an organization's requests, an exponential one."""
_TOLD_AHEAD_MAX_S: Final = 5.0
_WIDER_THAN_THE_LEDGER: Final = 2
_WAITING: Final = 64
"""Twice as many as may wait for a limit in the log, where the policy is to wait."""
_BURST_S: Final = 2
"""Of bytes: how many seconds' worth may come at once."""


@dataclass(slots=True)
class _Share:
    requests: int = 0
    flex: int = 0
    """Of them those that wait for room."""
    mean_ms: float = 1_000.0


@dataclass(slots=True)
class Shares:
    """Counts requests; ``enter`` and ``leave`` come in pairs."""

    all_max: int
    org_max: int
    requests: int = 0
    flex: int = 0
    _by_org: dict[str, _Share] = field(default_factory=dict)
    """Of organizations that have keys, so it is as bounded as the configuration."""

    def enter(self, org: str) -> Refusal | None:
        """Count one more request, or tell why it finds no room."""
        share = self._by_org.get(org)
        if share is None:
            share = self._by_org[org] = _Share()
        free = self.all_max - self.requests
        if free <= 0:
            return Refusal(ErrorCode.OVERLOADED, "The gateway is full.")
        limit = self.org_max
        if self.requests >= _NEAR * self.all_max:
            limit = min(limit, free)
        if share.requests >= limit:
            return _share_refusal(share, limit)
        share.requests += 1
        self.requests += 1
        return None

    def leave(self, org: str, held_ms: float | None) -> None:
        """A request that had entered has ended, ``held_ms`` later; ``None`` of one that waited for room, which says nothing
        of when others end."""
        share = self._by_org[org]
        share.requests -= 1
        if held_ms is None:
            share.flex -= 1
            self.flex -= 1
        else:
            share.mean_ms += _NEWEST_WEIGHS * (held_ms - share.mean_ms)
        self.requests -= 1

    def enter_flex(self, org: str) -> Refusal | None:
        """Count one that has entered as one that waits for room, or tell why it cannot wait on a connection: no more than
        half of the places, of an organization's or of all, are taken by those that may stay for an hour."""
        share = self._by_org[org]
        if 2 * share.flex >= self.org_max or 2 * self.flex >= self.all_max:
            message = "Too many flex requests wait on connections; post it as a job, which waits without one."
            return Refusal(ErrorCode.RESOURCE_UNAVAILABLE, message)
        share.flex += 1
        self.flex += 1
        return None

    def bounds_reached(self) -> dict[str, str]:
        """Bounds at which requests are refused now, and how they are reached."""
        full = sum(share.requests >= self.org_max for share in self._by_org.values())
        reached = {}
        if self.requests >= self.all_max:
            reached["inflight_max"] = f"{self.requests} requests"
        if full:
            reached["org_inflight_max"] = f"{full} organizations at {self.org_max} requests"
        return reached


def _share_refusal(share: _Share, limit: int) -> Refusal:
    # Within one mean duration as many requests end as there are now.
    retry_after_ms = min(max(round(share.mean_ms), RETRY_HINT_MIN_MS), RETRY_HINT_MAX_MS)
    denial = Denial(
        limit_id=SHARE_LIMIT_ID,
        limit_type="rate_limit",
        unit="requests",
        current_usage=share.requests,
        limit=limit,
        retry_after_ms=retry_after_ms,
    )
    message = f"Rate limit reached: {SHARE_LIMIT_ID}"
    return Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, message, denial=denial)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit: units a second, and how many may come at once.

    ``widened`` times both pass here; of those that come at once, ``waiting`` more.
    """

    per_s: float
    burst: float
    widened: float = 1.0
    waiting: int = 0

    @property
    def burst_here(self) -> float:
        """How many may come at once here."""
        return self.widened * self.burst + self.waiting


@dataclass(slots=True)
class _State:
    """Theoretical arrival times, in seconds: here, and as the ledger's is known."""

    here_s: float
    ledger_s: float
    told_s: float = 0.0
    """The latest turn that somebody was told."""


@dataclass(slots=True)
class LocalBuckets:
    """Buckets by name; the one not used for longest makes room, since it is the fullest."""

    names_max: int = 20_000
    _states: OrderedDict[str, _State] = field(default_factory=OrderedDict)

    def wait_s(self, name: str, bucket: Bucket, cost: float, now_s: float) -> float:
        """Seconds until ``cost`` units can be had; 0 when they can now. Takes nothing."""
        state = self._states.get(name)
        if state is None:
            return 0.0
        here_per_s, here = bucket.widened * bucket.per_s, bucket.burst_here
        here_at_s = max(state.here_s, now_s) + (min(cost, here) - here) / here_per_s
        if here_at_s <= now_s:
            return 0.0
        cost = min(cost, bucket.burst)
        ledger_at_s = max(state.ledger_s, now_s) + (cost - bucket.burst) / bucket.per_s
        free_at_s = max(here_at_s, ledger_at_s)
        turn_s = max(free_at_s, state.told_s + cost / bucket.per_s)
        state.told_s = min(turn_s, max(free_at_s, now_s + _TOLD_AHEAD_MAX_S))
        return state.told_s - now_s

    def take(self, name: str, bucket: Bucket, cost: float, now_s: float) -> None:
        """Take ``cost`` units, whether they are there or not; the ledger will if it has them."""
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = _State(now_s, now_s)
            if len(self._states) > self.names_max:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(name)
        state.here_s = max(state.here_s, now_s) + cost / (bucket.widened * bucket.per_s)
        ledger_s = max(state.ledger_s, now_s) + cost / bucket.per_s
        if ledger_s - now_s <= bucket.burst / bucket.per_s:
            state.ledger_s = ledger_s

    def learn(self, name: str, bucket: Bucket, retry_after_s: float, now_s: float) -> None:
        """The ledger refused one unit, and said when it will have one again."""
        state = self._states.get(name)
        if state is not None:
            free_s = now_s + retry_after_s
            state.ledger_s = max(state.ledger_s, free_s + (bucket.burst - 1) / bucket.per_s)


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket, and how it is told to whoever meets it."""

    name: str
    limit_id: str
    unit: str
    bucket: Bucket


@dataclass(slots=True)
class LocalLimits:
    """The buckets of each key's requests and bytes."""

    default_per_s: float
    default_burst: int
    """Where key and organization state no rate."""
    key_bytes_per_s: int
    _buckets: LocalBuckets = field(default_factory=LocalBuckets)
    _known_config: Snapshot | None = None
    _known: dict[str, tuple[Limit, ...]] = field(default_factory=dict)
    """Caller to its limits under the known configuration; bounded, since users are not counted in it."""

    def refuse(
        self, caller: Caller, config: Snapshot, body_bytes: int, now_s: float
    ) -> Refusal | None:
        """Charge a request and the bytes that it announces, or tell which limit it meets."""
        limits = self._limits_of(caller, config)
        for limit in limits:
            cost = body_bytes if limit.unit == "bytes" else 1
            wait_s = self._buckets.wait_s(limit.name, limit.bucket, cost, now_s)
            if wait_s:
                return rate_refusal(limit, wait_s)
        for limit in limits:
            cost = body_bytes if limit.unit == "bytes" else 1
            self._buckets.take(limit.name, limit.bucket, cost, now_s)
        return None

    def count_body(self, caller: Caller, size_bytes: int, now_s: float) -> None:
        """A body that had announced no size was read."""
        limit = self._bytes_limit(caller)
        self._buckets.take(limit.name, limit.bucket, size_bytes, now_s)

    def learn(self, caller: Caller, config: Snapshot, denial: Denial, now_s: float) -> None:
        """The ledger refused a request, and said when it will have room again."""
        if denial.retry_after_ms is None:
            return
        for limit in self._limits_of(caller, config):
            if limit.limit_id == denial.limit_id:
                retry_after_s = denial.retry_after_ms / 1_000
                self._buckets.learn(limit.name, limit.bucket, retry_after_s, now_s)

    def _limits_of(self, caller: Caller, config: Snapshot) -> tuple[Limit, ...]:
        """The limits of a key's requests, found once for each configuration."""
        if config is not self._known_config:
            self._known_config = config
            self._known.clear()
        who = caller.alias or caller.key_id
        limits = self._known.get(who)
        if limits is None:
            if len(self._known) >= self._buckets.names_max:
                self._known.clear()
            limits = self._known[who] = tuple(self._find_limits(caller, config))
        return limits

    def _find_limits(self, caller: Caller, config: Snapshot) -> Iterator[Limit]:
        """Requests per second of key and organization, and bytes; what was just removed has none."""
        waiting = _WAITING if _may_wait(caller, config) else 0
        key, org = config.keys.get(caller.key_id), config.organizations.get(caller.org)
        if key is not None:
            yield self._rate_limit("key", caller.key_id, key.limits, waiting)
        if org is not None:
            yield self._rate_limit("org", caller.org, org.limits, waiting)
        yield self._bytes_limit(caller)

    def _rate_limit(self, scope: str, entity_id: str, limits: Limits, waiting: int) -> Limit:
        per_s, burst = limits.requests_per_s, limits.burst
        if per_s is None:
            per_s = self.default_per_s
            burst = burst or self.default_burst
        burst = burst or max(1, math.ceil(per_s))
        bucket = Bucket(per_s, burst, _WIDER_THAN_THE_LEDGER, waiting)
        limit_id = f"{scope}:requests_per_s"
        return Limit(f"{scope}/{entity_id}", limit_id, "requests", bucket)

    def _bytes_limit(self, caller: Caller) -> Limit:
        bucket = Bucket(self.key_bytes_per_s, _BURST_S * self.key_bytes_per_s)
        return Limit(f"bytes/{caller.alias or caller.key_id}", "key:bytes_per_s", "bytes", bucket)


def _may_wait(caller: Caller, config: Snapshot) -> bool:
    """Whether the policy of the request is to wait for a limit, as admission reads it."""
    stated = (limits.on_limit for limits in limits_of_owners(caller, config))
    return next((policy for policy in stated if policy is not None), "reject") == "defer"


def rate_refusal(limit: Limit, wait_s: float) -> Refusal:
    """The refusal of who meets a bucket, and when to come back."""
    denial = Denial(
        limit_id=limit.limit_id,
        limit_type="rate_limit",
        unit=limit.unit,
        current_usage=math.ceil(limit.bucket.burst),
        limit=math.ceil(limit.bucket.per_s),
        retry_after_ms=max(RETRY_HINT_MIN_MS, math.ceil(wait_s * 1_000)),
    )
    message = f"Rate limit reached: {limit.limit_id}"
    return Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, message, denial=denial)

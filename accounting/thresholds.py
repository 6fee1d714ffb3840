"""Which share of a limit has been spent, and what is told of it. Pure.

Compared is what the log has booked on a balance with the limit in force when it is booked. A share that is reached is told once for each
limit, period and percentage; the event's id is made of these, so whoever tells it twice tells the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from schemas.config_state import Snapshot
from schemas.entities import Key, Limits, Project, User
from schemas.events import AuditRecorded
from schemas.ledger.documents import Unit
from schemas.ledger.keys import ORG_SCOPE
from schemas.money import nano_usd
from schemas.thresholds import Percents

ACTION: Final = "threshold"
ACTOR: Final = "accounting"
_PERIODS: Final = {len("total"): "total", len("2026-11"): "month", len("2026-11-21"): "day"}


class BalanceName(NamedTuple):
    """What the suffix of a balance says: ``b:<scope>/<unit>:<period>``."""

    scope: str
    """``org``, ``project``, ``key`` or ``user``."""
    entity_id: str | None
    """Of the scope; ``None`` of the organization itself."""
    unit: Unit
    period: str
    """Its id, such as ``2026-11``."""

    @property
    def type(self) -> str:
        """The type of its limit, as clients are told of it."""
        return "budget" if self.unit == "nano_usd" else "quota"

    @property
    def kind(self) -> str:
        """``day``, ``month`` or ``total``; empty where it is none that is known here."""
        return _PERIODS.get(len(self.period), "")


def balance_name(suffix: str) -> BalanceName:
    """The name in a suffix; ids may hold colons and slashes, units and periods do not."""
    named, _, period = suffix.removeprefix("b:").rpartition(":")
    scope_key, _, unit = named.rpartition("/")
    scope, _, entity_id = scope_key.partition("/")
    return BalanceName(scope, entity_id or None, unit, period)  # type: ignore[arg-type]  # what we wrote


@dataclass(frozen=True, slots=True)
class LimitInForce:
    """The lower of the limits that stand on one balance."""

    id: str
    """As a denial names it."""
    amount: int
    """In the unit of the balance."""
    percents: Percents

    def reached(self, total: int) -> Iterable[int]:
        """The percentages that a total has come to."""
        return (each for each in self.percents if total > 0 and total * 100 >= each * self.amount)

    def next_at(self, told: Iterable[tuple[int, int]]) -> int | None:
        """The total at which there is something to tell; ``None`` when all was told."""
        left = [each for each in self.percents if (each, self.amount) not in told]
        return max(1, -(-min(left) * self.amount // 100)) if left else None


def limit_in_force(
    name: BalanceName, org: str, config: Snapshot, default: Percents
) -> LimitInForce | None:
    """The limit on a balance of an organization, ``None`` where there is none, or nothing is to be told of it."""
    owner = config.organizations.get(org)
    limits = _limits_of(name, org, config)
    if owner is None or limits is None:
        return None
    percents = next(
        (
            stated
            for stated in (limits.thresholds_percent, owner.limits.thresholds_percent)
            if stated is not None
        ),
        default,
    )
    amounts = list(_amounts(name, limits))
    if not amounts or not percents:
        return None
    what = name.type if name.type == "budget" else f"quota:{name.unit}"
    return LimitInForce(f"{name.scope}:{what}:{name.kind}", min(amounts), percents)


def _limits_of(name: BalanceName, org: str, config: Snapshot) -> Limits | None:
    if name.scope == ORG_SCOPE:
        found = config.organizations.get(org)
        return found.limits if found is not None else None
    scopes: Mapping[str, Mapping[str, Project | Key | User]] = {
        "project": config.projects,
        "key": config.keys,
        "user": config.users,
    }
    entity = scopes.get(name.scope, {}).get(name.entity_id or "")
    return entity.limits if entity is not None and entity.org == org else None


def _amounts(name: BalanceName, limits: Limits) -> Iterable[int]:
    if name.unit == "nano_usd":
        return (nano_usd(each.usd) for each in limits.budgets if each.period == name.kind)
    return (
        each.amount for each in limits.quotas if each.unit == name.unit and each.period == name.kind
    )


@dataclass(slots=True)
class Watched:
    """One balance as this process knows it; kept beside the books, and read anew whenever that is in doubt."""

    name: BalanceName
    total: int | None = None
    """Booked so far; ``None`` while it was not read."""
    told: set[tuple[int, int]] = field(default_factory=set)
    """Percentages that were told, each of the limit's amount then."""
    limit: LimitInForce | None = None
    next_at: int | None = None
    config_offset: int = -2

    def follow(self, org: str, config: Snapshot, default: Percents) -> None:
        """Take the limit that is in force now."""
        if self.config_offset != config.offset:
            self.config_offset = config.offset
            self.limit = limit_in_force(self.name, org, config, default)
            self.next_at = self.limit.next_at(self.told) if self.limit else None

    @property
    def is_unread(self) -> bool:
        """Whether its total is wanted and not known."""
        return self.next_at is not None and self.total is None

    @property
    def is_due(self) -> bool:
        """Whether there may be something to tell."""
        return self.next_at is not None and self.total is not None and self.total >= self.next_at

    def remember(self, told: Iterable[tuple[int, int]]) -> None:
        """These were told, by whomever."""
        self.told.update(told)
        self.next_at = self.limit.next_at(self.told) if self.limit else None

    def untold(self) -> list[int]:
        """The percentages that are reached and were not told."""
        if self.limit is None or self.total is None:
            return []
        amount = self.limit.amount
        return [p for p in self.limit.reached(self.total) if (p, amount) not in self.told]


def threshold_event(
    org: str, suffix: str, watched: Watched, percent: int, at_ms: int
) -> AuditRecorded:
    """What is told of one percentage; for a limit of one amount in one period it always has the same id."""
    assert watched.limit is not None
    name, limit = watched.name, watched.limit
    detail = {
        "limit_id": limit.id,
        "limit_type": name.type,
        "scope": name.scope,
        "id": name.entity_id or org,
        "period": name.period,
        "unit": name.unit,
        "percent": percent,
        "limit": limit.amount,
        "usage": watched.total,
    }
    return AuditRecorded(
        audit_id=f"threshold:{org}|{suffix}:{limit.amount}:{percent}",
        org=org,
        action=ACTION,
        actor=ACTOR,
        at_ms=at_ms,
        detail=msgspec.json.encode(detail).decode(),
    )

"""How limits read: what the caller may still use of each, told from what stands in the ledger. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, TypedDict

from ingress.auth.caller import Caller
from ingress.http.refusals import amount_told
from schemas.config_state import Snapshot
from schemas.error_bodies import Amount
from schemas.ledger.documents import Balance, Lease, Rate, Unit
from schemas.ledger.limit_readings import LimitReadings, read_rate
from schemas.stated_limits import Defaults, balances_of, leases_of, limit_scopes, rates_of

LimitKind: TypeAlias = Literal["requests_per_s", "tokens_per_min", "concurrency", "quota", "budget"]
_NOTHING: dict[Unit, int] = {"requests": 0, "tokens": 0, "nano_usd": 0}
_MS_PER_S = 1_000


class LimitStanding(TypedDict):
    """One limit, and what is left of it. Amounts are USD of a budget, else tokens or requests."""

    id: str
    """As refusals by it name it in the log: scope, kind, unit and period."""
    object: Literal["limit"]
    scope: Literal["org", "project", "key", "user"]
    kind: LimitKind
    unit: Literal["usd", "tokens", "requests"]
    limit: Amount
    """Of a rate, how much may come at once."""
    used: Amount
    held: Amount
    """Kept for requests under way; what they do not use returns."""
    remaining: Amount
    resets_at: int | None
    """Unix seconds at which all of it is there again, if nothing more is used; ``None`` where no time brings it back."""


class LimitList(TypedDict):
    """What stands against the caller's requests."""

    object: Literal["list"]
    data: list[LimitStanding]


class CallersLimits(NamedTuple):
    """The limits of a caller, as the ledger is asked for them."""

    rates: Sequence[Rate]
    leases: Sequence[Lease]
    balances: Sequence[Balance]
    """Those that have a limit."""


def limits_of(caller: Caller, config: Snapshot, default: Defaults, now_ms: int) -> CallersLimits:
    """The limits of a caller whose organization exists; each that its requests are asked for."""
    scopes = [*limit_scopes(caller.org, caller.project, caller.key_id, caller.user, config)]
    return CallersLimits(
        [rate for scope in scopes for rate in rates_of(scope, default, 0, [])],
        [lease for scope in scopes for lease in leases_of(scope, default.in_flight, [])],
        [each for each in balances_of(scopes, _NOTHING, now_ms) if each.limit is not None],
    )


def limit_list(limits: CallersLimits, read: LimitReadings) -> LimitList:
    """All of them: rates, places for requests under way, quotas and budgets."""
    data = [
        *(_rate(*each, read.now_us) for each in zip(limits.rates, read.buckets, strict=True)),
        *(
            _standing(lease.id, "concurrency", "requests", lease.limit, 0, taken)
            for lease, taken in zip(limits.leases, read.leases, strict=True)
        ),
        *(
            _balance(balance, *stands)
            for balance, stands in zip(limits.balances, read.balances, strict=True)
        ),
    ]
    return {"object": "list", "data": data}


def _rate(rate: Rate, bucket: tuple[int, int], now_us: int) -> LimitStanding:
    used, full_ms = read_rate(rate, bucket, now_us)
    if rate.id.endswith("tokens_per_min"):
        return _standing(rate.id, "tokens_per_min", "tokens", rate.burst, used, 0, full_ms)
    return _standing(rate.id, "requests_per_s", "requests", rate.burst, used, 0, full_ms)


def _balance(balance: Balance, settled: int, held: int) -> LimitStanding:
    kind: LimitKind = "budget" if balance.unit == "nano_usd" else "quota"
    assert balance.limit is not None
    limit = balance.limit
    return _standing(balance.id, kind, balance.unit, limit, settled, held, balance.end_ms)


def _standing(
    limit_id: str,
    kind: LimitKind,
    unit: Unit,
    limit: int,
    used: int,
    held: int,
    resets_ms: int | None = None,
) -> LimitStanding:
    return {
        "id": limit_id,
        "object": "limit",
        "scope": limit_id.partition(":")[0],  # type: ignore[typeddict-item]  # scopes name their ids
        "kind": kind,
        "unit": "usd" if unit == "nano_usd" else unit,
        "limit": amount_told(limit, unit),
        "used": amount_told(used, unit),
        "held": amount_told(held, unit),
        "remaining": amount_told(max(0, limit - used - held), unit),
        "resets_at": None if resets_ms is None else -(-resets_ms // _MS_PER_S),
    }

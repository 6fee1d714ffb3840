"""What an admission agreed to, as the ledger keeps it beside the hold. Pure.

Whoever meets the request again produces its admission from these terms and the record, and so makes the
same bytes: today's prices, limits and periods have no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec

from limiter_worker.accepted import Accepted
from schemas.claim_check import is_elsewhere
from schemas.events import (
    Hold,
    PinnedPrice,
    PriceBand,
    PriceDetails,
    RecordRef,
    RequestAdmitted,
    ToolPrice,
    Uplift,
)
from schemas.ledger.answers import Admitted
from schemas.ledger.documents import Balance, Lease, Rate

_T = TypeVar("_T", bound=msgspec.Struct)
_Row: TypeAlias = tuple[str | int | None, ...]
"""A record's fields in their order."""
_Hold: TypeAlias = tuple[str, str, int, int | None, int, int]
_Place: TypeAlias = tuple[str, int, int]


class _Details(msgspec.Struct, frozen=True, array_like=True):
    """``PriceDetails`` without names."""

    bands: tuple[_Row, ...]
    tools: tuple[_Row, ...]
    uplifts: tuple[_Row, ...]
    auto_tiers: tuple[str, ...]

    @classmethod
    def of(cls, details: PriceDetails) -> _Details:
        """Without names."""
        return cls(
            tuple(map(msgspec.structs.astuple, details.bands)),
            tuple(map(msgspec.structs.astuple, details.tools)),
            tuple(map(msgspec.structs.astuple, details.uplifts)),
            tuple(details.auto_tiers),
        )

    def details(self) -> PriceDetails:
        """With names."""
        return PriceDetails(
            bands=[_named(PriceBand, row) for row in self.bands],
            tools=[_named(ToolPrice, row) for row in self.tools],
            uplifts=[_named(Uplift, row) for row in self.uplifts],
            auto_tiers=list(self.auto_tiers),
        )


class _Price(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """``PinnedPrice`` without names; a flat one has no details."""

    version: str
    of_input: int
    of_cached_input: int
    of_output: int
    details: _Details | None = None

    @classmethod
    def of(cls, price: PinnedPrice) -> _Price:
        """Without names."""
        return cls(
            price.version,
            price.input_nano_usd_per_mtok,
            price.cached_input_nano_usd_per_mtok,
            price.output_nano_usd_per_mtok,
            None if price.details is None else _Details.of(price.details),
        )

    def price(self) -> PinnedPrice:
        """With names."""
        return PinnedPrice(
            version=self.version,
            input_nano_usd_per_mtok=self.of_input,
            cached_input_nano_usd_per_mtok=self.of_cached_input,
            output_nano_usd_per_mtok=self.of_output,
            details=None if self.details is None else self.details.details(),
        )


class AdmittedTerms(msgspec.Struct, frozen=True, array_like=True):
    """Facts of an admission without names, because every running request has them in the ledger."""

    accepted_at: _Place
    """Where the request was accepted: topic, partition, offset."""
    admitted_at_ms: int
    """When the record that was decided was appended."""
    config_offset: int
    price: _Price | None
    """What was pinned."""
    holds: tuple[_Hold, ...]
    """Key, unit, amount, limit, and the period's start and end in ms (0: it has none)."""
    leases: tuple[str, ...] | None = None
    """Keys of the concurrency leases; ``None`` where versions before admitted it."""
    rates_milli_per_s: tuple[int, ...] | None = None
    """Refill of each bucket, in the order in which the ledger answers for them."""

    def encoded(self) -> str:
        """As kept in the ledger."""
        return msgspec.json.encode(self).decode()

    @property
    def pinned(self) -> PinnedPrice | None:
        """The price that was pinned, with names."""
        return None if self.price is None else self.price.price()

    def event(self, accepted: Accepted, answer: Admitted) -> RequestAdmitted:
        """The admission of the request."""
        topic, partition, offset = self.accepted_at
        return RequestAdmitted(
            request_id=accepted.request.request_id,
            org=accepted.request.org,
            accepted=accepted.record,
            accepted_ref=RecordRef(topic=topic, partition=partition, offset=offset),
            payload_elsewhere=is_elsewhere(accepted.request),
            admitted_at_ms=self.admitted_at_ms,
            holds=[_hold(*hold) for hold in self.holds],
            price=None if self.price is None else self.price.price(),
            rates=list(answer.remaining),
            leases=None if self.leases is None else list(self.leases),
            rates_milli_per_s=(
                None if self.rates_milli_per_s is None else list(self.rates_milli_per_s)
            ),
            config_offset=self.config_offset,
        )


def decoded_terms(terms: str) -> AdmittedTerms:
    """From the ledger; ``msgspec.DecodeError`` when they are none of ours."""
    return msgspec.json.decode(terms, type=AdmittedTerms)


class AskedLimits(NamedTuple):
    """What is asked of the ledger, all or nothing."""

    rates: Sequence[Rate]
    leases: Sequence[Lease]
    balances: Sequence[Balance]


def admitted_terms(
    accepted: Accepted,
    asked: AskedLimits,
    price: PinnedPrice | None,
    config_offset: int,
) -> AdmittedTerms:
    """What is agreed to if the ledger admits the request."""
    return AdmittedTerms(
        accepted_at=msgspec.structs.astuple(accepted.ref),
        admitted_at_ms=accepted.appended_at_ms,
        config_offset=config_offset,
        price=None if price is None else _Price.of(price),
        holds=tuple(
            (each.key, each.unit, each.amount, each.limit, each.start_ms, each.end_ms or 0)
            for each in asked.balances
        ),
        leases=tuple(each.key for each in asked.leases),
        rates_milli_per_s=tuple(each.rate_milli_per_s for each in asked.rates),
    )


def _named(kind: type[_T], row: _Row) -> _T:
    return kind(**dict(zip(kind.__struct_fields__, row, strict=True)))


def _hold(
    key: str,
    unit: str,
    amount: int,
    limit: int | None,
    start_ms: int,
    end_ms: int,
) -> Hold:
    return Hold(key=key, unit=unit, amount=amount, limit=limit, start_ms=start_ms, end_ms=end_ms)

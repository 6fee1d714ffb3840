"""Makes requests flex: at which price, and what a backend is asked for. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from ingress.apis.parsed_request import ParsedRequest
from schemas.config_state import Snapshot
from schemas.operations import Operation
from schemas.pricing.bands import bands_of, tiers_of
from schemas.pricing.bound import NOTHING_SPECIAL
from schemas.pricing.tiers import FLEX

__all__ = ["as_flex"]

_FIELD: Final = "service_tier"
_PAYLOAD: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def as_flex(
    operation: Operation, parsed: ParsedRequest, snapshot: Snapshot, now_ms: int
) -> ParsedRequest:
    """The same in the tier flex. A backend is asked for flex exactly where the model's price states it: a backend that
    sells it bills so, and one that knows no tiers ignores the field. Of others nobody knows what they would do."""
    listed = snapshot.prices.get(parsed.model)
    price = None if listed is None else listed.at(now_ms)
    is_sold = price is not None and FLEX in tiers_of(bands_of(price))
    call = parsed.call
    call = msgspec.structs.replace(
        call,
        payload=_named_in(call.payload, is_sold and operation.has_tiers),
        reach=msgspec.structs.replace(call.reach or NOTHING_SPECIAL, service_tier=FLEX),
    )
    return msgspec.structs.replace(parsed, call=call)


def _named_in(payload: bytes, is_named: bool) -> bytes:  # noqa: FBT001  # said by the one caller
    """The body with the field where it is to be named, and without it elsewhere."""
    body = _PAYLOAD.decode(payload)
    if is_named:
        body[_FIELD] = msgspec.Raw(b'"flex"')
    elif body.pop(_FIELD, None) is None:
        return payload
    return msgspec.json.encode(body)

"""The buckets that an admission charged, whichever version wrote the record. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.events import RateStatus, RequestAdmitted

__all__ = ["rates_of"]

_AS_TEXT: Final = msgspec.json.Decoder(tuple[RateStatus, ...])


def rates_of(admitted: RequestAdmitted) -> tuple[RateStatus, ...]:
    """What is left of each bucket; in records of versions 1 and 2 it stands as JSON in ``rate_status``."""
    if admitted.rates is not None:
        return tuple(admitted.rates)
    return _AS_TEXT.decode(admitted.rate_status)

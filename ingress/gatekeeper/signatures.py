"""Proves signed requests once their body is there: by their signature, then by its first use in any process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from ingress.auth.signature import Unproven, refuse_age, refuse_forgery
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.ledger.errors import LedgerUnavailable
from schemas.ledger.signatures import SignatureUse
from schemas.runtime.ledger.client import LedgerClient
from schemas.times import SIGNATURE_WITHIN_MS

_WITHIN_S: Final = 2.0
_MARGIN_MS: Final = 2_000
"""A timestamp has no fraction of a second, and the store a clock of its own."""
_CHARS_KEPT: Final = 32
"""Of a signature: 128 bits, so that no two are the same."""

_USES: Final = {
    SignatureUse.AGAIN: Refusal(
        ErrorCode.SIGNATURE_REPLAYED, "The signature was used before. Sign each try anew."
    ),
    SignatureUse.EARLIER: Refusal(
        ErrorCode.SIGNATURE_EXPIRED,
        "The signature is older than what is remembered of signatures here. Sign it anew.",
    ),
}


@dataclass(frozen=True, slots=True)
class Signatures:
    """What is known of signatures: how each is judged, and in the ledger which were used."""

    ledger: LedgerClient

    async def refuse(self, unproven: Unproven, sha256: str, now_ms: int) -> Refusal | None:
        """Why a signed request is not served: it is not as it was signed, or came before; 503 when that cannot be told.

        Only what is truly signed reaches the ledger, so that nobody else fills it.
        """
        claim, org = unproven.claim, unproven.caller.org
        # Once more, because a body takes its time, and what was used is not remembered for longer.
        refusal = refuse_age(claim, now_ms) or refuse_forgery(unproven, sha256)
        if refusal is not None:
            return refusal
        signed_at_ms = 1_000 * claim.signed_at_s
        kept_ms = signed_at_ms + SIGNATURE_WITHIN_MS + _MARGIN_MS - now_ms
        try:
            async with asyncio.timeout(_WITHIN_S):
                used = claim.signature[:_CHARS_KEPT]
                use = await self.ledger.use_signature(org, used, signed_at_ms, kept_ms)
        except (LedgerUnavailable, TimeoutError):
            what = "Whether the signature was used before cannot be told now. Sign it anew."
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, what)
        return _USES.get(use)

"""Signatures of requests in the ledger: what is known of one when it is used. Pure."""

from __future__ import annotations

from enum import StrEnum


class SignatureUse(StrEnum):
    """What the ledger knows of a signature that is used now."""

    FIRST = "FIRST"
    AGAIN = "AGAIN"
    EARLIER = "EARLIER"
    """Its shard was made again since it was signed, and does not know."""

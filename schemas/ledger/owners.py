"""The owner of an attempt: which claim of which process holds its lease. Pure."""

from __future__ import annotations

__all__ = ["instance_of", "owner_of"]


def owner_of(instance_id: str, nonce: bytes) -> str:
    """A name for one claim; the nonce tells it from the same process's other claims of that request."""
    return f"{instance_id}/{nonce.hex()}"


def instance_of(owner: str) -> str:
    """The process that an owner belongs to: who is told that its request was cancelled."""
    return owner.partition("/")[0]

"""Makes the store that an address names."""

from __future__ import annotations

from schemas.runtime.valkey.node import NodeConnection
from schemas.runtime.valkey.store import OnConnect, Store


def open_store(url: str, on_connect: OnConnect | None = None) -> Store:
    """The store at this address; nothing connects before its ``start``."""
    return NodeConnection(url, on_connect)

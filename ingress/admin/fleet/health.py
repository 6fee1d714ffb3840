"""Backends' health as the dispatchers report it, each from what it saw itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.ledger.keys import BACKEND_HEALTH
from schemas.runtime.config.report import LIVE_WITHIN_S
from schemas.runtime.valkey.store import StoreConnection, StoreError, StoreUnavailable, text_pairs


class Report(msgspec.Struct, frozen=True):
    """What one dispatcher says of one backend; times are Unix milliseconds."""

    state: str
    since_ms: int
    at_ms: int
    inflight: int = 0


def read_reports(reports: Mapping[str, str], now_ms: int) -> dict[str, list[dict[str, Any]]]:
    """Backend to its fresh reports, from the fields ``<instance>|<backend>``.

    Old ones are of dispatchers that ended; what cannot be read is left out.
    """
    health: dict[str, list[dict[str, Any]]] = {}
    for name, text in sorted(reports.items()):
        instance, _, backend = name.partition("|")
        try:
            report = msgspec.json.decode(text, type=Report)
        except (msgspec.ValidationError, msgspec.DecodeError):
            continue
        if now_ms - report.at_ms <= LIVE_WITHIN_S * 1_000:
            line = {"instance": instance, **msgspec.to_builtins(report)}
            health.setdefault(backend, []).append(line)
    return health


async def health_of_backends(
    store: StoreConnection, now_ms: int
) -> dict[str, list[dict[str, Any]]]:
    """Backend to what its dispatchers say; nothing while the store does not answer."""
    try:
        reply = await store.call("HGETALL", BACKEND_HEALTH)
    except (StoreUnavailable, StoreError):
        return {}
    return read_reports(text_pairs(reply), now_ms)

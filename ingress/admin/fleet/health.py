"""Backends' health as the dispatchers report it, each from what it saw itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict, cast

from schemas.ledger.keys import BACKEND_HEALTH
from schemas.reports import FRESH_FOR_S, read_backend_field, read_backend_report
from schemas.runtime.valkey.store import Store, StoreError, StoreUnavailable, text_pairs

_SHOWN = ("state", "since_ms", "at_ms", "inflight", "lacks_key", "probe")


class BackendSeen(TypedDict):
    """A backend as one dispatcher sees it."""

    instance: str
    state: str
    since_ms: int
    at_ms: int
    inflight: int
    lacks_key: bool
    probe: str


def read_reports(reports: Mapping[str, str], now_ms: int) -> dict[str, list[BackendSeen]]:
    """Backend to its fresh reports, by the fields of the store.

    Old ones are of dispatchers that ended; what cannot be read is left out.
    """
    health: dict[str, list[BackendSeen]] = {}
    for name, text in sorted(reports.items()):
        instance, backend = read_backend_field(name)
        report = read_backend_report(text)
        if report is not None and now_ms - report.at_ms <= FRESH_FOR_S * 1_000:
            shown = {field: getattr(report, field) for field in _SHOWN}
            seen = cast("BackendSeen", {"instance": instance, **shown})
            health.setdefault(backend, []).append(seen)
    return health


async def health_of_backends(store: Store, now_ms: int) -> dict[str, list[BackendSeen]]:
    """Backend to what its dispatchers say; nothing while the store does not answer."""
    try:
        reply = await store.call("HGETALL", BACKEND_HEALTH)
    except (StoreUnavailable, StoreError):
        return {}
    return read_reports(text_pairs(reply), now_ms)

"""A limiter on the model of the ledger, and what it made of requests."""

from __future__ import annotations

from typing import Any

from schemas.config_state import Snapshot
from schemas.events import RequestAccepted, RequestAdmitted, RequestFinished
from schemas.runtime.process.clock import Clock
from schemas.topics import DISPATCH, OUTCOMES, REQUESTS, dead_letters_of
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import FakeConfig, Limiter, ModelLedger

LETTERS = dead_letters_of(REQUESTS)


def new_limiter(config: Snapshot | None = None, **more: Any) -> tuple[Limiter, ModelLedger]:
    ledger = ModelLedger()
    return Limiter(ledger, FakeConfig(config or configuration()), **more), ledger


def new_request(number: int, **more: Any) -> RequestAccepted:
    now_ms = Clock().now_ms()
    times = {"accepted_at_ms": now_ms, "deadline_ms": now_ms + 60_000}
    return accepted(request_id=f"r{number}", **({"produce_by_ms": now_ms + 60_000} | times | more))


def dispatched_ids(limiter: Limiter) -> list[str]:
    events = limiter.producer.events(DISPATCH)
    return [event.request_id for event in events if isinstance(event, RequestAdmitted)]


def statuses(limiter: Limiter) -> dict[str, tuple[str, int]]:
    events = limiter.producer.events(OUTCOMES)
    return {
        e.request_id: (e.status, e.http_status) for e in events if isinstance(e, RequestFinished)
    }

"""Valid events and a small configuration; a test changes only what it is about."""

from __future__ import annotations

from typing import Any

from limiter_worker.accepted import Accepted
from schemas.codec import encode
from schemas.config_state import Snapshot, prices_of
from schemas.entities import Backend, Key, Limits, Model, Organization, Project, Target, User
from schemas.events import (
    Attempt,
    Booking,
    Hold,
    PinnedPrice,
    RecordRef,
    RequestAccepted,
    RequestAdmitted,
    RequestFinished,
)

NOW_MS = 1_700_000_000_000
REQUEST_ID = "018bcfe5-6800-7000-8000-000000000001"
ACCEPTED_AT = RecordRef(topic="inference.requests.v1", partition=3, offset=41)
DISPATCHED_AT = RecordRef(topic="inference.dispatch.v1", partition=1, offset=17)
PRICE = PinnedPrice(
    version="echo@4",
    input_nano_usd_per_mtok=2_000_000_000,
    cached_input_nano_usd_per_mtok=500_000_000,
    output_nano_usd_per_mtok=6_000_000_000,
)


def accepted(**more: Any) -> RequestAccepted:
    """A request of the organization acme for the model echo."""
    fields: dict[str, Any] = {
        "request_id": REQUEST_ID,
        "org": "acme",
        "project": "search",
        "key_id": "key_a",
        "user": "ada",
        "route": "chat.completions",
        "model": "echo",
        "stream": False,
        "include_usage": False,
        "payload": b'{"messages":[{"role":"user","content":"hello"}]}',
        "input_tokens_bound": 1_000,
        "output_tokens_bound": 500,
        "accepted_at_ms": NOW_MS,
        "deadline_ms": NOW_MS + 60_000,
        "produce_by_ms": NOW_MS + 5_000,
        "config_offset": 7,
        "reply_to": "ing:ingress-0",
    }
    return RequestAccepted(**(fields | more))


def as_read(request: RequestAccepted, appended_at_ms: int = NOW_MS + 2) -> Accepted:
    """The request as the limiter takes it from its record."""
    return Accepted(request, encode(request), ACCEPTED_AT, appended_at_ms)


def hold(key: str, unit: str, amount: int) -> Hold:
    """A hold in a period that never ends."""
    return Hold(key=key, unit=unit, amount=amount, start_ms=0, end_ms=0)


def admitted(request: RequestAccepted, record: bytes = b"", **more: Any) -> RequestAdmitted:
    """The request's admission, with one hold of every unit."""
    fields: dict[str, Any] = {
        "request_id": request.request_id,
        "org": request.org,
        "accepted": record,
        "accepted_ref": ACCEPTED_AT,
        "admitted_at_ms": NOW_MS + 3,
        "holds": [
            hold("b:org/nano_usd:2023-11", "nano_usd", 5_000_000),
            hold("b:org/tokens:2023-11", "tokens", 1_500),
            hold("b:key/key_a/requests:2023-11-14", "requests", 1),
        ],
        "price": PRICE,
        "rates": [],
        "config_offset": 7,
    }
    return RequestAdmitted(**(fields | more))


def attempt(number: int = 1, **more: Any) -> Attempt:
    """A call that succeeded."""
    fields: dict[str, Any] = {
        "attempt": number,
        "backend": "b1",
        "status": "succeeded",
        "started_at_ms": NOW_MS + 5,
        "finished_at_ms": NOW_MS + 900,
        "upstream_status": 200,
        "input_tokens": 12,
        "output_tokens": 34,
        "price_version": PRICE.version,
        "cost_nano_usd": 228_000,
    }
    return Attempt(**(fields | more))


def finished(attempts: list[Attempt], bookings: list[Booking], **more: Any) -> RequestFinished:
    """A completed request."""
    fields: dict[str, Any] = {
        "request_id": REQUEST_ID,
        "org": "acme",
        "project": "search",
        "key_id": "key_a",
        "user": "ada",
        "route": "chat.completions",
        "model": "echo",
        "status": "completed",
        "http_status": 200,
        "accepted_at_ms": NOW_MS,
        "finished_at_ms": NOW_MS + 901,
        "deadline_ms": NOW_MS + 60_000,
        "fence": 2**32 + 1,
        "attempts": attempts,
        "bookings": bookings,
        "parents": [ACCEPTED_AT, DISPATCHED_AT],
    }
    return RequestFinished(**(fields | more))


def priced_model(*targets: Target) -> Model:
    """A model with prices."""
    return Model(
        backends=targets or (Target(backend="b1"),),
        input_usd_per_mtok="2",
        cached_input_usd_per_mtok="0.5",
        output_usd_per_mtok="6",
    )


def configuration(
    *,
    org: Limits = Limits(),  # noqa: B008  # a frozen value
    project: Limits = Limits(),  # noqa: B008
    key: Limits = Limits(),  # noqa: B008
    user: Limits = Limits(),  # noqa: B008
    model: Model | None = None,
) -> Snapshot:
    """One organization with everything that ``accepted`` names, and a backend b1."""
    served = model or priced_model()
    return Snapshot(
        offset=7,
        organizations={"acme": Organization(limits=org)},
        projects={"search": Project(org="acme", limits=project)},
        users={"ada": User(org="acme", limits=user)},
        keys={"key_a": Key(org="acme", hash="0" * 64, display="", created_at_ms=0, limits=key)},
        models={"echo": served},
        backends={"b1": Backend(url="http://127.0.0.1:1/v1")},
        prices={"echo": prices_of("echo", served, 4)},
        versions={("model", "echo"): 4},
    )

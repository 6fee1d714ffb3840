"""An outcome as tests of ingress read it."""

from __future__ import annotations

import msgspec

from schemas.events import Attempt, RequestFinished

ATTEMPT = Attempt(
    attempt=1,
    backend="b1",
    status="succeeded",
    started_at_ms=1,
    finished_at_ms=2,
    input_tokens=5,
    output_tokens=7,
    cost_nano_usd=12,
)


OUTCOME = RequestFinished(
    request_id="r",
    org="acme",
    key_id="k",
    route="jobs",
    model="echo",
    status="completed",
    http_status=200,
    accepted_at_ms=1_000,
    finished_at_ms=1_500,
    deadline_ms=60_000,
    fence=1,
    attempts=[ATTEMPT, msgspec.structs.replace(ATTEMPT, cost_nano_usd=None, estimated=True)],
    bookings=[],
    parents=[],
    result=b"{}",
)

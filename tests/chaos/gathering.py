"""Gathers the evidence of a run from the log, the backends and the ledger once it came to rest.

Coming to rest is itself a promise: 60 seconds after the last fault every accepted request has ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tests.chaos.evidence import (
    AcceptedRequest,
    ClientRequest,
    Evidence,
    Outcome,
    UsageLine,
)
from tests.chaos.rig import Rig
from tests.support.harness.kafka_log import KafkaLog, LogRecord

LIVENESS_S = 60.0
_MARKER = re.compile(r"chaos-\d+-[0-9a-f]{16}")


def gather(
    rig: Rig,
    clients: Sequence[ClientRequest],
    *,
    keys_are_honoured: bool = True,
    breaches: Sequence[str] = (),
) -> Evidence:
    """All evidence; waits for what is under way, for `LIVENESS_S` at most per topic."""
    log = KafkaLog(rig.stack.kafka)
    requests = [
        *log.read("inference.requests.v1", lambda _: True, LIVENESS_S),
        *log.read("inference.background.v1", lambda _: True, LIVENESS_S),
    ]
    accepted = tuple(_accepted(record.value) for record in requests)
    wanted = {request.request_id for request in accepted}
    records = log.read(
        "inference.outcomes.v1",
        lambda found: wanted <= {record.value["request_id"] for record in found},
        LIVENESS_S,
    )
    outcomes = tuple(_outcome(r.value) for r in records if r.schema == "RequestFinished")
    lines_wanted = {f"{o.request_id}:{attempt}:0" for o in outcomes for attempt in o.attempts}
    lines = log.read(
        "usage.records.v1",
        lambda found: lines_wanted <= {record.value["usage_id"] for record in found},
        LIVENESS_S,
    )
    return Evidence(
        clients=tuple(clients),
        accepted=accepted,
        outcomes=outcomes,
        usage=tuple(_line(record) for record in lines),
        calls=rig.calls(),
        ledger=rig.ledger_at_rest(),
        ceilings=tuple(tenant.ceiling for tenant in rig.tenants),
        breaches=tuple(breaches),
        keys_are_honoured=keys_are_honoured,
    )


def _accepted(value: dict[str, Any]) -> AcceptedRequest:
    marker = _MARKER.search(json.dumps(json.loads(value["payload"])))
    request_id = value["request_id"]
    return AcceptedRequest(request_id, marker[0] if marker else request_id, value["org"])


def _outcome(value: dict[str, Any]) -> Outcome:
    attempts = tuple(attempt["attempt"] for attempt in value["attempts"])
    return Outcome(value["request_id"], value["status"], attempts, value)


def _line(record: LogRecord) -> UsageLine:
    names = ("usage_id", "request_id", "attempt", "input_tokens", "output_tokens")
    more = ("cost_nano_usd", "estimated", "status")
    return UsageLine(**{name: record.value[name] for name in (*names, *more)})

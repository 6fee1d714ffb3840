"""What the snapshots in the log say was booked, read as a stranger would."""

from __future__ import annotations

import time

from tests.support.harness.kafka_log import KafkaLog, LogRecord

_TABLES = "usage.tables.v1"
_COST = "b:org/nano_usd:"
WRITTEN_WITHIN_S = 45.0
"""A round comes every ten seconds, and a process that died has to come back first."""


def costs_in(records: list[LogRecord]) -> dict[str, int]:
    """By organization, the cost of the period in which it was booked last. Later records replace earlier ones."""
    costs: dict[str, int] = {}
    for record in records:
        if record.schema == "TableSnapshot" and record.value["table"] == "balances":
            for balance, amount in record.value["values"].items():
                if balance.startswith(_COST) and not balance.endswith(("total", "over", "late")):
                    costs[record.value["org"]] = amount
    return costs


def lacking(log: KafkaLog, cost: int) -> int:
    """What the newest snapshots of all organizations lack of that cost; 0 as soon as they have it."""
    end_s = time.monotonic() + WRITTEN_WITHIN_S
    while True:
        missing = cost - sum(costs_in(log.read(_TABLES, lambda _: True, 10.0)).values())
        if not missing or time.monotonic() > end_s:
            return missing
        time.sleep(1.0)

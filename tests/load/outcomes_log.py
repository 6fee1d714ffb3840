"""Outcomes by the hundred thousand, appended to the log of a running stack, whose accounting books them.

Organizations, keys, models and backends are told apart; attempts end within the last five hours. A few outcomes are copies of
others, as delivery at least once leaves them, a few have a second attempt, and a few are corrections.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from confluent_kafka import Producer

from schemas.events import Attempt, AttemptAdjusted, Booking, RequestFinished
from schemas.ids import uuid7
from schemas.outgoing import Outgoing, adjustment_record, outcome_record
from schemas.topics import OUTCOMES

ORGANIZATIONS: Final = 50
_SPAN_MS: Final = 5 * 3_600_000
_MODELS: Final = ("small", "large", "embedder")
_BACKENDS: Final = ("east", "west")
_BALANCES: Final = (("b:org/tokens:2099-01", "tokens"), ("b:org/nano_usd:2099-01", "nano_usd"))
_QUEUE_MAX: Final = 200_000
_FLUSH_WITHIN_S: Final = 120.0


def outcomes(count: int, until_ms: int, seed: int = 1) -> Iterator[Outgoing]:
    """So many records, in the order of time, from a seed."""
    chance, made = random.Random(seed), 0
    while made < count:
        at_ms = until_ms - _SPAN_MS + _SPAN_MS * made // count
        for record in _request(chance, at_ms)[: count - made]:
            made += 1
            yield record


def _request(chance: random.Random, at_ms: int) -> list[Outgoing]:
    org = f"replayed-{chance.randrange(ORGANIZATIONS)}"
    attempts = [_attempt(chance, at_ms, 1)]
    kind = chance.random()
    if kind < 0.02:
        failed = msgspec.structs.replace(attempts[0], status="failed", output_tokens=0)
        attempts = [failed, _attempt(chance, at_ms, 2)]
    event = RequestFinished(
        request_id=uuid7(at_ms - 900, chance.randbytes(10)),
        org=org,
        key_id=f"key_{org}_{chance.randrange(4)}",
        user=chance.choice((None, "ada")),
        route="chat.completions",
        model=chance.choice(_MODELS),
        status="completed",
        http_status=200,
        accepted_at_ms=at_ms - 900,
        finished_at_ms=at_ms,
        deadline_ms=at_ms + 119_100,
        fence=2**32 + 1,
        attempts=attempts,
        bookings=_bookings(attempts),
        parents=[],
    )
    more = {"request_id": event.request_id.encode(), "deadline_ms": b"%d" % event.deadline_ms}
    record = outcome_record(event, "dispatcher", more)
    if kind > 0.99:
        return [record, adjustment_record(_correction(event), more)]
    return [record, record] if kind > 0.985 else [record]


def _attempt(chance: random.Random, at_ms: int, number: int) -> Attempt:
    return Attempt(
        attempt=number,
        backend=chance.choice(_BACKENDS),
        status="succeeded",
        started_at_ms=at_ms - 800,
        finished_at_ms=at_ms,
        upstream_status=200,
        input_tokens=chance.randrange(20, 4_000),
        output_tokens=chance.randrange(1, 800),
        price_version="small@1",
        cost_nano_usd=chance.randrange(1_000, 4_000_000),
    )


def _bookings(attempts: list[Attempt]) -> list[Booking]:
    tokens = sum(each.input_tokens + each.output_tokens for each in attempts)
    cost = sum(each.cost_nano_usd or 0 for each in attempts)
    amounts = {"tokens": tokens, "nano_usd": cost}
    return [Booking(key=key, unit=unit, amount=amounts[unit]) for key, unit in _BALANCES]


def _correction(event: RequestFinished) -> AttemptAdjusted:
    delta = msgspec.structs.replace(
        event.attempts[0], input_tokens=0, output_tokens=-1, cost_nano_usd=-7
    )
    shared = ("request_id", "org", "key_id", "user", "route", "model", "deadline_ms")
    return AttemptAdjusted(
        **{name: getattr(event, name) for name in shared},
        revision=1,
        delta=delta,
        bookings=[Booking(key=_BALANCES[0][0], unit="tokens", amount=-1)],
        reason="late_finish",
        adjusted_at_ms=event.finished_at_ms,
        parents=[],
    )


def append(brokers: str, count: int) -> float:
    """Append them; seconds that it took."""
    began_s = time.perf_counter()
    settings = {
        "bootstrap.servers": brokers,
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": _QUEUE_MAX,
        "linger.ms": 20,
        "enable.idempotence": True,
    }
    producer = Producer(settings)
    for record in outcomes(count, int(time.time() * 1_000) - 1_000):
        _produce(producer, OUTCOMES, record)
    assert producer.flush(_FLUSH_WITHIN_S) == 0
    return time.perf_counter() - began_s


def _produce(producer: Producer, topic: str, record: Outgoing) -> None:
    more: dict[str, Any] = {"headers": list(record.headers)}
    while True:
        try:
            producer.produce(topic, record.value, record.key, **more)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return

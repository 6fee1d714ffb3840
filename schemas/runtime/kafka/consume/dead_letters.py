"""Takes records that can never succeed out of the way, with their original bytes and the reason.

A dead letter is acknowledged by the broker before its record's offset goes, and the path is bounded: a
bad release stops the worker instead of draining a topic into its dead letters.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace

from schemas.failures import Defect
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.produce import Producer, ProduceRefused
from schemas.topics import dead_letters_of

_WINDOW_S = 60.0
_WINDOW_MAX = 1_000
_PRODUCE_DEADLINE_S = 3_600.0


class TooManyDeadLetters(Defect):
    """More dead letters within a minute than an accident explains; the worker must stop."""


@dataclass(slots=True)
class DeadLetters:
    """Produces dead letters for one worker."""

    producer: Producer
    recent: deque[float]

    @classmethod
    def through(cls, producer: Producer) -> DeadLetters:
        """Dead letters sent by ``producer``."""
        return cls(producer, deque(maxlen=_WINDOW_MAX))

    async def take(self, record: Record, stage: str, error: Exception) -> None:
        """Store the record's original bytes. Returns once the broker has them.

        What is too large with its reason beside it is stored without its bytes, which stay where the
        headers say. Raises ``TooManyDeadLetters`` past the bound.
        """
        now_s = time.monotonic()
        if len(self.recent) == _WINDOW_MAX and now_s - self.recent[0] < _WINDOW_S:
            raise TooManyDeadLetters(f"{_WINDOW_MAX} within {_WINDOW_S:.0f} s, last: {error!r}")
        self.recent.append(now_s)
        letter = Outgoing(
            topic=dead_letters_of(record.topic),
            key=record.key or b"",
            value=record.value,
            headers=[*record.headers.items(), *_reason(record, stage, error)],
        )
        try:
            await self.producer.deliver([letter], now_s + _PRODUCE_DEADLINE_S)
        except ProduceRefused:
            empty = replace(letter, value=None, headers=_reason(record, stage, error))
            await self.producer.deliver([empty], now_s + _PRODUCE_DEADLINE_S)


def _reason(record: Record, stage: str, error: Exception) -> list[tuple[str, bytes]]:
    """Headers in the family of Kafka Connect, so that tools understand them."""
    facts = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "stage": stage,
        "exception.class.name": type(error).__qualname__,
        "exception.message": str(error)[:1_000],
    }
    return [(f"__connect.errors.{name}", value.encode()) for name, value in facts.items()]

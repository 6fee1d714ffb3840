"""Who may do what in Kafka: a user for each process, with the topics that it reads and writes, and its groups. Pure.

A broker that denies what nobody allowed bounds what a leaked password is good for: no other topics, no configuration of
the broker, no deletion. It does not check what a process may decide. Topics are created and altered by whoever runs
``tallygate topics apply``, and no process is that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from schemas.topics import (
    AUDIT,
    BACKGROUND,
    CONFIG,
    DEFERRED_DELAYS_MS,
    DISPATCH,
    OUTCOMES,
    READ_BY,
    REQUESTS,
    RESULTS,
    SPEND_GROUP,
    TOPICS,
    USAGE_RECORDS,
    USAGE_TABLES,
    WEBHOOK_GROUP,
    WEBHOOK_PAUSES_MS,
    WEBHOOKS,
    WEBHOOKS_GIVEN_UP,
    dead_letters_of,
    group_of,
)

__all__ = ["KAFKA_USERS", "Grant", "KafkaUser"]

Resource = Literal["topic", "group"]
Operation = Literal["read", "write", "describe"]


@dataclass(frozen=True, slots=True)
class Grant:
    """One thing that is allowed: an entry of Kafka's access control list, by its literal name."""

    resource: Resource
    name: str
    operation: Operation


@dataclass(frozen=True, slots=True)
class KafkaUser:
    """A process in Kafka. Who may read or write a topic may also ask where its records stand."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    groups: tuple[str, ...] = ()
    """The consumer groups whose member it is."""
    watches: tuple[str, ...] = ()
    """Groups whose committed offsets it asks for."""

    def grants(self) -> Iterator[Grant]:
        """Each entry once, in a steady order."""
        yield from (Grant("topic", name, "read") for name in sorted({*self.reads}))
        yield from (Grant("topic", name, "write") for name in sorted({*self.writes}))
        yield from (Grant("group", name, "read") for name in self.groups)
        yield from (Grant("group", name, "describe") for name in self.watches)


_ACCEPTED: Final = (REQUESTS, BACKGROUND)
_FROM_LIMITER: Final = READ_BY["limiter_worker"]
_WITH_DEAD_LETTERS: Final = tuple(topic.name for topic in TOPICS if topic.has_dead_letters)
_LOOKS_UP: Final = (CONFIG, OUTCOMES, *_ACCEPTED)
"""The configuration, and how a request ended: it is found by the place of its organization."""

KAFKA_USERS: Final[Mapping[str, KafkaUser]] = {
    "admin": KafkaUser(
        reads=tuple(topic.name for topic in TOPICS),
        # A dead letter is given another try where it came from.
        writes=(CONFIG, AUDIT, WEBHOOKS, *_WITH_DEAD_LETTERS),
        watches=(*map(group_of, READ_BY), SPEND_GROUP, WEBHOOK_GROUP),
    ),
    "ingress": KafkaUser(
        # What became of a request is told from all of its records.
        reads=(*_LOOKS_UP, RESULTS, DISPATCH, *DEFERRED_DELAYS_MS, USAGE_RECORDS),
        writes=(*_ACCEPTED, AUDIT, OUTCOMES),
    ),
    "batches": KafkaUser(
        # Of its lines it learns what ingress learns of requests.
        reads=(*_LOOKS_UP, RESULTS),
        writes=(*_ACCEPTED, AUDIT, OUTCOMES),
    ),
    "limiter_worker": KafkaUser(
        reads=(*_LOOKS_UP, *_FROM_LIMITER),
        writes=(
            *(DISPATCH, OUTCOMES, AUDIT, *DEFERRED_DELAYS_MS),
            *map(dead_letters_of, _FROM_LIMITER),
        ),
        groups=(group_of("limiter_worker"),),
    ),
    "dispatcher": KafkaUser(
        # Of the audit events it tells thresholds by webhook.
        reads=(*_LOOKS_UP, DISPATCH, RESULTS, AUDIT, WEBHOOKS, *WEBHOOK_PAUSES_MS),
        writes=(
            *(OUTCOMES, RESULTS, dead_letters_of(DISPATCH)),
            *(WEBHOOKS, *WEBHOOK_PAUSES_MS, WEBHOOKS_GIVEN_UP),
        ),
        groups=(group_of("dispatcher"), WEBHOOK_GROUP),
    ),
    "accounting": KafkaUser(
        # It makes shards of the ledger again from all that they were made of.
        reads=(*_LOOKS_UP, DISPATCH, *DEFERRED_DELAYS_MS, USAGE_RECORDS, USAGE_TABLES),
        writes=(
            *(OUTCOMES, USAGE_RECORDS, USAGE_TABLES, CONFIG, AUDIT),
            dead_letters_of(OUTCOMES),
        ),
        groups=(group_of("accounting"), SPEND_GROUP),
    ),
}
"""The users by process."""

"""Judges the topics of the log, and who may read and write them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from deploy.cli.doctor.facts import Kafka, Status
from deploy.cli.doctor.finding import Finding, found, quoted
from schemas.kafka_users import KAFKA_USERS, Grant
from schemas.topic_facts import Acl, TopicFacts
from schemas.topics import TOPICS, Topic

__all__ = ["of_log"]

_TOPICS: Final = {topic.name: topic for topic in TOPICS}
_AT_LEAST: Final = ("retention.ms", "retention.bytes", "max.message.bytes")
"""Settings that may be more than the list says; -1 is no bound."""
_EXACTLY: Final = ("cleanup.policy", "message.timestamp.type")
_IMPLIED: Final = {"describe": frozenset({"read", "write", "describe", "all"})}
_FLAGS: Final = {"topic": "--topic", "group": "--group"}


def of_log(kafka: Kafka, status: Status) -> list[Finding]:
    """Topics that are missing or other than the list says, and rights that a process lacks."""
    count = _common_count(kafka.topics)
    apply = _apply(kafka, count)
    present = [topic for topic in kafka.topics if topic.partitions]
    return [
        *found("topics", _missing(kafka.topics, apply), f"{len(present)} present"),
        *found("partitions", _other_counts(kafka, present, count, apply), f"{count} of each"),
        *found("retention", _weaker(present, apply), "all that the list of topics says"),
        *found("acl", _denied(kafka, status), _rights_told(kafka)),
    ]


def _common_count(topics: Iterable[TopicFacts]) -> int:
    """How many partitions topics have here: as most of them do."""
    counts = Counter(t.partitions for t in topics if t.partitions and not _is_single(t.name))
    return counts.most_common(1)[0][0] if counts else 0


def _is_single(name: str) -> bool:
    return _TOPICS[name].one_partition


def _apply(kafka: Kafka, count: int) -> str:
    """The command that makes what is missing, and sets what differs."""
    replicas = max((topic.replicas for topic in kafka.topics), default=1)
    words = ["tallygate", "topics", "apply"]
    words += ["--partitions", str(count)] if count else []
    words += ["--replicas", str(replicas)] if replicas > 1 else []
    return quoted(*words)


def _missing(topics: Iterable[TopicFacts], apply: str) -> Iterator[Finding]:
    for topic in topics:
        if not topic.partitions:
            yield Finding("topics", topic.name, "is missing", apply)


def _other_counts(
    kafka: Kafka, present: Iterable[TopicFacts], count: int, apply: str
) -> Iterator[Finding]:
    for topic in present:
        wanted = 1 if _is_single(topic.name) else count
        if topic.partitions != wanted:
            text = (
                f"{topic.partitions} partitions, not {wanted}: an organization is elsewhere in it"
            )
            delete = quoted(
                *("kafka-topics.sh", "--bootstrap-server", kafka.brokers),
                *("--delete", "--topic", topic.name),
            )
            remark = "  # with its records; stop the processes before, and start them after it"
            yield Finding("partitions", topic.name, text, f"{delete} && {apply}{remark}")


def _weaker(present: Iterable[TopicFacts], apply: str) -> Iterator[Finding]:
    for topic in present:
        differing = _differing(_TOPICS[topic.name], topic)
        told = [f"{name} is {value}, not {wanted}" for name, value, wanted in differing]
        if told:
            yield Finding("retention", topic.name, "; ".join(told), apply)


def _differing(topic: Topic, facts: TopicFacts) -> Iterator[tuple[str, str, str]]:
    """Settings under which records are gone, or refused, earlier than they may be."""
    for name, wanted in topic.settings().items():
        value = facts.settings.get(name)
        if value is None:
            continue
        is_less = name in _AT_LEAST and _bound(value) < _bound(wanted)
        if is_less or (name in _EXACTLY and value != wanted):
            yield name, value, wanted


def _bound(value: str) -> float:
    number = int(value) if value.lstrip("-").isdecimal() else 0
    return float("inf") if number < 0 else number


def _rights_told(kafka: Kafka) -> str:
    return "the brokers ask nobody" if kafka.acls is None else "each process may what it needs"


def _denied(kafka: Kafka, status: Status) -> Iterator[Finding]:
    if kafka.acls is None:
        return
    users = {
        (each.role, each.report.kafka_user)
        for each in status.live
        if each.report is not None and each.report.kafka_user
    }
    for role, user in sorted(users):
        for grant in KAFKA_USERS[role].grants() if role in KAFKA_USERS else ():
            if not _is_allowed(kafka.acls, f"User:{user}", grant):
                text = f"{user} may not {grant.operation} it, as {role} needs"
                run = quoted(
                    *("kafka-acls.sh", "--bootstrap-server", kafka.brokers, "--add"),
                    *("--allow-principal", f"User:{user}"),
                    *("--operation", grant.operation.capitalize()),
                    *(_FLAGS[grant.resource], grant.name),
                )
                yield Finding("acl", f"{grant.resource} {grant.name}", text, run)


def _is_allowed(acls: Iterable[Acl], principal: str, grant: Grant) -> bool:
    """As Kafka decides: one denial outweighs what is allowed."""
    about = [acl for acl in acls if acl.principal in (principal, "User:*") and _covers(acl, grant)]
    enough = _IMPLIED.get(grant.operation, frozenset({grant.operation, "all"}))
    is_denied = any(acl.is_denial and acl.operation in (grant.operation, "all") for acl in about)
    return not is_denied and any(not acl.is_denial and acl.operation in enough for acl in about)


def _covers(acl: Acl, grant: Grant) -> bool:
    if acl.resource != grant.resource:
        return False
    if acl.pattern == "prefixed":
        return grant.name.startswith(acl.name)
    return acl.name in (grant.name, "*")

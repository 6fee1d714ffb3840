"""Who may do what in Kafka: what the processes need, and nothing that nobody stated."""

from __future__ import annotations

import pytest

from accounting.app import _SHAPE as ACCOUNTING
from deploy.embedded.environment import SETTINGS
from dispatcher.app import _SHAPE as DISPATCHER
from limiter_worker.app import _SHAPE as LIMITER
from schemas.kafka_users import KAFKA_USERS
from schemas.runtime.process.worker import WorkerShape
from schemas.topics import (
    CONFIG,
    OUTCOMES,
    READ_BY,
    SPEND_GROUP,
    TOPICS,
    USAGE_RECORDS,
    USAGE_TABLES,
    WEBHOOK_GROUP,
    group_of,
)


@pytest.mark.parametrize("shape", [LIMITER, DISPATCHER, ACCOUNTING], ids=lambda s: s.role)
def test_a_worker_may_produce_what_it_says_it_produces_and_no_more(shape: WorkerShape) -> None:
    """The worker's own list is the other half."""
    user = KAFKA_USERS[shape.role]

    assert {*user.writes} == {OUTCOMES, *shape.produces}
    assert group_of(shape.role) in user.groups
    assert {*READ_BY[shape.role]} <= {*user.reads}


def test_every_process_is_a_user_and_no_other() -> None:
    assert set(KAFKA_USERS) == set(SETTINGS)


def test_money_and_configuration_are_written_by_few() -> None:
    """The usage log by accounting alone; the configuration by who administers, and accounting's epochs."""

    def writers(topic: str) -> set[str]:
        return {name for name, user in KAFKA_USERS.items() if topic in user.writes}

    assert writers(USAGE_RECORDS) == writers(USAGE_TABLES) == {"accounting"}
    assert writers(CONFIG) == {"admin", "accounting"}


def test_every_grant_names_a_topic_or_group_that_there_is_once() -> None:
    """No patterns: a new topic is nobody's until somebody says whose."""
    groups = {*map(group_of, READ_BY), SPEND_GROUP, WEBHOOK_GROUP}
    known = {("topic", topic.name) for topic in TOPICS} | {("group", name) for name in groups}
    for user in KAFKA_USERS.values():
        grants = list(user.grants())
        assert {(grant.resource, grant.name) for grant in grants} <= known
        assert len(grants) == len(set(grants))

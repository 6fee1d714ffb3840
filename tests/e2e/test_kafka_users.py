"""S17: the whole gateway on a broker that denies what nobody allowed: each process a user of its own, over TLS.

The broker is a real Apache Kafka with its own authorizer. Who is denied stands in the broker's log, which is the oracle.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    for_code,
)

from deploy.embedded.kafka_users import KafkaUsers
from deploy.embedded.ports import HOST
from deploy.embedded.tls import Certificates
from schemas.kafka_users import KAFKA_USERS
from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.free_consumer import stop_consumer
from schemas.topics import CONFIG, OUTCOMES, READ_BY, SPEND_GROUP, TOPICS, WEBHOOK_GROUP, group_of
from tests.support.harness.running_stack import TALLYGATE, RunningStack, running_stack

pytestmark = pytest.mark.timeout(300)
_DENIED = re.compile(r"Principal = User:(\S+) is Denied [Oo]peration = (\w+) .*?resource = (\S+)")
_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One that was started from the command line."""
    folder = tmp_path_factory.mktemp("users") / "state"
    options = ("--kafka-users", "--store-users", "--mtls")
    with running_stack(folder, options=options) as running:
        yield running


def denied(stack: RunningStack) -> list[tuple[str, ...]]:
    """Who was denied what, as the broker says it."""
    log = (stack.state_dir / "logs" / "kafka.log").read_text()
    return sorted({match.groups() for match in _DENIED.finditer(log)})


def address_of(stack: RunningStack, user: str, password: str | None = None) -> str:
    """Where a process of the stack connects to."""
    memory = json.loads((stack.state_dir / "stack.json").read_text())
    users = KafkaUsers(Certificates(stack.state_dir / "kafka-tls"), memory["store_secret"])
    found = users.address_of(user, f"{HOST}:{memory['ports']['kafka']}")
    return found if password is None else re.sub(r":[0-9a-f]{64}@", f":{password}@", found)


def run(stack: RunningStack, *arguments: str) -> Any:
    """A command that found its way by itself, and its JSON."""
    environment = {**os.environ, "XDG_STATE_HOME": str(stack.state_dir.parent)}
    done = subprocess.run(
        [str(TALLYGATE), *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=90,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask(stack: RunningStack, path: str, **more: Any) -> httpx.Response:
    body = {"model": "echo-1", "messages": [{"role": "user", "content": "one two"}]}
    headers = {"authorization": f"Bearer {stack.first_key}"} | more.pop("headers", {})
    url = f"{stack.api_url.removesuffix('/v1')}{path}"
    return httpx.post(url, json=body | more, headers=headers, timeout=60, trust_env=False)


def test_the_whole_gateway_runs_with_no_more_than_its_own_rights(stack: RunningStack) -> None:
    """Requests, jobs, keyed and large ones, searches, a rebuild and the books: the broker denied nobody anything."""
    chat = "/v1/chat/completions"
    large = [{"role": "user", "content": "word " * 40_000}]
    answers = [
        *(ask(stack, chat) for _ in range(5)),
        ask(stack, chat, messages=large),
        *(ask(stack, chat, headers={"idempotency-key": "once"}) for _ in range(2)),
    ]
    assert [answer.status_code for answer in answers] == [200] * 8, [a.text for a in answers]
    job = ask(stack, chat, headers={"prefer": "respond-async"})
    assert job.status_code == 202, job.text

    request_id = answers[0].headers["x-request-id"]
    assert run(stack, "ledger", "verify", "--deadline-s", "30")["difference"] == 0
    run(stack, "ledger", "rebuild")
    assert run(stack, "ledger", "verify", "--deadline-s", "30", "--full")["difference"] == 0
    assert run(stack, "requests", "show", request_id)["status"] == "completed"
    run(stack, "reconcile")
    run(stack, "audit", "list")
    run(stack, "lag")
    run(stack, "dlq", "list")
    run(stack, "orgs", "set", "acme", "--rps", "9")

    assert denied(stack) == []


def test_a_doctor_finds_nothing_where_nothing_is_wrong(stack: RunningStack) -> None:
    """As the broker's operator, whose address the stack left beside its certificates: topics and rights were looked at."""
    checks = {check["check"]: check for check in run(stack, "doctor")["checks"]}

    assert [check for check in checks.values() if not check["ok"]] == []
    assert checks["acl"]["text"] == "each process may what it needs"
    assert checks["partitions"]["text"] == "4 of each"
    assert (stack.state_dir.parent / "tallygate" / "current.json").stat().st_mode & 0o77 == 0


@asynccontextmanager
async def _consumer(brokers: str, **more: Any) -> AsyncIterator[AIOKafkaConsumer]:
    more |= {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
    consumer = AIOKafkaConsumer(**client_options(brokers), **more)
    try:
        await consumer.start()
        yield consumer
    finally:
        await stop_consumer(consumer)


async def _read(brokers: str, topic: str) -> str:
    """What a fetch comes to: `read`, or `refused` by the broker, for the topic or for its records."""
    async with _consumer(brokers) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        end_s = time.monotonic() + _WITHIN_S
        while time.monotonic() < end_s:
            try:
                await asyncio.wait_for(consumer.getmany(timeout_ms=200), _WITHIN_S)
            except TopicAuthorizationFailedError:
                return "refused"
            if topic in consumer._client.cluster.unauthorized_topics:
                return "refused"
            if consumer.highwater(TopicPartition(topic, 0)) is not None:
                return "read"
    return "nothing"


async def _write(brokers: str, topic: str) -> None:
    producer = AIOKafkaProducer(**client_options(brokers), request_timeout_ms=5_000)
    try:
        await producer.start()
        await asyncio.wait_for(producer.send_and_wait(topic, b"forged", partition=0), _WITHIN_S)
    finally:
        await producer.stop()


@pytest.mark.parametrize("role", KAFKA_USERS)
async def test_a_role_reads_and_writes_no_topic_of_others(stack: RunningStack, role: str) -> None:
    """S17: every topic that its row does not name; and what the row names it reads."""
    brokers, user = address_of(stack, role), KAFKA_USERS[role]
    names = [topic.name for topic in TOPICS]
    told = dict(zip(names, await asyncio.gather(*(_read(brokers, n) for n in names)), strict=True))
    for name in (each for each in names if each not in user.writes):
        with pytest.raises(TopicAuthorizationFailedError):
            await _write(brokers, name)

    assert {name for name in names if told[name] == "read"} == {*user.reads}
    assert {name for name in names if told[name] == "refused"} == {*names} - {*user.reads}


@pytest.mark.parametrize("role", KAFKA_USERS)
async def test_a_role_joins_no_group_of_others(stack: RunningStack, role: str) -> None:
    """S17: nor one of its own making; a foreign member would take partitions from the workers."""

    async def join(group: str) -> None:
        async with _consumer(address_of(stack, role), group_id=group) as consumer:
            consumer.subscribe([CONFIG])
            await asyncio.wait_for(consumer.getone(), _WITHIN_S)

    for group in (*map(group_of, READ_BY), SPEND_GROUP, WEBHOOK_GROUP, "mine"):
        if group not in KAFKA_USERS[role].groups:
            with pytest.raises(GroupAuthorizationFailedError):
                await join(group)


@pytest.mark.parametrize("role", KAFKA_USERS)
async def test_a_role_changes_nothing_of_the_broker(stack: RunningStack, role: str) -> None:
    """S17: no topic is made, deleted or altered."""
    admin = AIOKafkaAdminClient(**client_options(address_of(stack, role)))
    await admin.start()
    try:
        made = await admin.create_topics([NewTopic("mine", 1, 1)])
        deleted = await admin.delete_topics([OUTCOMES])
        setting = ConfigResource(ConfigResourceType.TOPIC, OUTCOMES, configs={"retention.ms": "1"})
        (altered,) = await admin.alter_configs([setting])
    finally:
        await admin.close()

    codes = [made.topic_errors[0][1], deleted.topic_error_codes[0][1], altered.resources[0][0]]
    refused = {for_code(code).__name__ for code in codes}
    assert refused <= {"TopicAuthorizationFailedError", "ClusterAuthorizationFailedError"}


async def test_nobody_comes_in_without_tls_or_with_another_password(stack: RunningStack) -> None:
    """S17: in the clear, with a wrong password, as nobody, and trusting another authority."""
    whole = address_of(stack, "ingress")
    place = whole.partition("@")[2].partition("?")[0]
    for brokers in (
        place,
        address_of(stack, "ingress", "0" * 64),
        whole.replace("kafkas://", "kafka://").partition("&")[0],
        f"kafkas://{place}?{whole.partition('&')[2]}",
        whole.partition("&")[0],
    ):
        with pytest.raises((KafkaError, TimeoutError)):
            await asyncio.wait_for(_read(brokers, CONFIG), 3.0)
    assert await _read(whole, CONFIG) == "read"


def test_what_was_tried_stands_in_the_brokers_log(stack: RunningStack) -> None:
    """So that an operator sees who tries; and the oracle of the first test is not blind."""
    assert {user for user, _, _ in denied(stack)} == set(KAFKA_USERS)
    assert oct((stack.state_dir / "kafka" / "server.properties").stat().st_mode & 0o777) == "0o600"

"""A replay reads the log again and touches nothing; what it says is what the backends' own log says.

It runs as users run it, as a process of the command line beside a stack that serves.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.topics import OUTCOMES, REQUESTS, TOPICS, dead_letters_of
from tests.support.harness.gateway_client import GatewayClient, Reply
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import TALLYGATE, RunningStack

pytestmark = pytest.mark.timeout(120, func_only=True)
RUN_WITHIN_S = 90.0
BURIED_WITHIN_S = 30.0
LETTERS = dead_letters_of(REQUESTS)


class Replays:
    """The command line, beside a stack."""

    def __init__(self, stack: RunningStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder

    def __call__(self, *words: str, code: int = 0, ledger: bool = True) -> dict[str, Any]:
        """What the command prints; its exit code is the one that is given."""
        done = self.ended(*words, "--json", ledger=ledger)
        assert done.returncode == code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def refused(self, *words: str, code: int) -> str:
        """What a command that cannot go on says."""
        done = self.ended(*words, ledger="accounting" in words)
        assert (done.returncode, done.stdout) == (code, "")
        assert "Traceback" not in done.stderr
        return done.stderr

    def ended(self, *words: str, ledger: bool = True) -> subprocess.CompletedProcess[str]:
        there = ["--brokers", self._stack.kafka, "--url", self._stack.admin_url]
        if ledger and "--ledger" not in words and {"accounting", "limiter"} & {*words}:
            there += ["--ledger", self._stack.ledger_url]
        return subprocess.run(
            [TALLYGATE, "replay", *words, *there],
            capture_output=True,
            check=False,
            text=True,
            timeout=RUN_WITHIN_S,
            env={**os.environ, "XDG_STATE_HOME": str(self._folder)},
        )


@pytest.fixture
def replay(stack: RunningStack, tmp_path: Path) -> Replays:
    """Replays of the stack that the tests share."""
    return Replays(stack, tmp_path)


@contextmanager
def _reader(stack: RunningStack) -> Iterator[Consumer]:
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": "replay-check"})
    try:
        yield consumer
    finally:
        consumer.close()


def _ends(stack: RunningStack) -> dict[str, int]:
    """Where each topic that a replay could harm ends."""
    spared = ("audit.router", "usage.tables.v1", "config.entries.v1")
    with _reader(stack) as consumer:
        return {
            f"{topic.name}-{number}": consumer.get_watermark_offsets(
                TopicPartition(topic.name, number), timeout=10
            )[1]
            for topic in TOPICS
            if topic.name not in spared
            for number in consumer.list_topics(topic.name, timeout=10).topics[topic.name].partitions
        }


async def _served(client: GatewayClient, grant: Grant, count: int) -> list[Reply]:
    asked = (client.chat(grant.key, f"number {n}", max_tokens=20) for n in range(count))
    return [await one for one in asked]


async def test_a_fold_of_what_was_served_is_what_the_backends_counted(
    client: GatewayClient, make_key: MakeKey, oracle: Oracle, stack: RunningStack, replay: Replays
) -> None:
    """Difference 0 with tables and lines of the live books, and no record more in any topic that processes read."""
    grant = make_key("replay-fold")
    replies = await _served(client, grant, 8)
    calls = oracle.calls_of({reply.request_id for reply in replies})
    before = await asyncio.to_thread(_ends, stack)

    found = await asyncio.to_thread(replay, "run", "--as", "accounting", "--org", grant.org)

    assert (found["difference"], found["selected"], found["tables_compared"]) == (0, 8, 1)
    told = {each["measure"]: (each["fold"], each["live"]) for each in found["totals"]}
    assert told["requests"] == (8, 8)
    for measure, counted in (
        ("input_tokens", sum(call.prompt_tokens for call in calls)),
        ("output_tokens", sum(call.completion_tokens for call in calls)),
        ("cost_nano_usd", sum(map(cost_nano_usd, calls))),
    ):
        assert told[measure] == (counted, counted)
    assert await asyncio.to_thread(_ends, stack) == before


async def test_a_changed_budget_changes_verdicts_and_each_is_told(
    client: GatewayClient, make_key: MakeKey, admin: httpx.Client, replay: Replays
) -> None:
    """Under the budget of then nothing changes; under a larger one those who were refused would be admitted."""
    grant = make_key(
        "replay-limits", {"quotas": [{"amount": 3, "unit": "requests", "period": "month"}]}
    )
    began = datetime.now(UTC).strftime(
        "@%Y-%m-%dT%H:%M:%SZ:"
    )  # before it others sent what no log can read
    replies = await _served(client, grant, 4)
    assert [reply.status for reply in replies] == [200, 200, 200, 402]
    words = ("run", "--as", "limiter", "--org", grant.org, "--range", began)

    same = await asyncio.to_thread(replay, *words)
    make_key(grant.org, {"quotas": [{"amount": 4, "unit": "requests", "period": "month"}]})
    more = await asyncio.to_thread(replay, *words, code=1)

    assert (same["difference"], same["judged"], same["changed"]) == (0, 4, [])
    assert (more["difference"], more["judged"]) == (1, 4)
    (changed,) = more["changed"]
    assert changed["request_id"] == replies[3].request_id
    assert (changed["was"].partition(" ")[2], changed["now"]) == (
        "org:quota:requests:month",
        "admitted",
    )


async def test_a_copy_goes_to_a_topic_of_its_own_and_folds_like_its_source(
    client: GatewayClient, make_key: MakeKey, stack: RunningStack, replay: Replays
) -> None:
    """It is made where it does not exist, says where each record stood, and has only what was chosen."""
    grant, to = make_key("replay-copy"), f"copy.{int(time.time())}"
    await _served(client, grant, 3)
    await asyncio.to_thread(replay, "run", "--as", "accounting", "--org", grant.org)

    made = await asyncio.to_thread(replay, "run", "--as", "copy", "--to", to, "--org", grant.org)
    again = await asyncio.to_thread(
        replay, "run", "--as", "accounting", "--topic", to, "--org", grant.org
    )

    assert (made["difference"], made["selected"]) == (0, 3)
    assert {each["measure"]: each["there"] for each in made["totals"]}["records"] == 3
    assert (again["difference"], again["read"], again["booked"]) == (0, 3, 3)


def _bury(stack: RunningStack) -> str:
    """The id of a dead letter that the limiter makes of bytes that are no request."""
    with _reader(stack) as consumer:
        count = len(consumer.list_topics(LETTERS, timeout=10).topics[LETTERS].partitions)
        places = [TopicPartition(LETTERS, number) for number in range(count)]
        before = [consumer.get_watermark_offsets(p, timeout=10)[1] for p in places]
        producer = Producer({"bootstrap.servers": stack.kafka})
        producer.produce(REQUESTS, b"\x00\x00\x00\x00\x01garbage", b"replay-letters")
        assert producer.flush(10) == 0
        end_s = time.monotonic() + BURIED_WITHIN_S
        while time.monotonic() < end_s:
            for place, offset in zip(places, before, strict=True):
                if consumer.get_watermark_offsets(place, timeout=10)[1] > offset:
                    return f"{place.partition}/{offset}:{offset + 1}"
            time.sleep(0.2)
    raise AssertionError("it was not buried")


async def test_dead_letters_are_retried_only_by_the_name_of_that_effect_and_once(
    stack: RunningStack, replay: Replays
) -> None:
    """A second run finds that it was retried, and does nothing."""
    at = await asyncio.to_thread(_bury, stack)
    words = ("run", "--effect", "retry-dead-letters", "--topic", LETTERS, "--range", at)

    first = await asyncio.to_thread(replay, *words)
    second = await asyncio.to_thread(replay, *words)

    assert (first["retried"], first["retried_before"], first["refused"]) == (1, 0, 0)
    assert (second["retried"], second["retried_before"], second["refused"]) == (0, 1, 0)


def test_a_plan_says_what_would_be_read_and_reads_it_only_to_count(replay: Replays) -> None:
    """With a filter that matches nothing the exit code says so, too."""
    whole = replay("plan")
    chosen = replay("plan", "--org", "nobody-of-this-name", code=3)

    assert whole["topic"] == OUTCOMES
    assert whole["records"] == sum(s["end"] - s["begin"] for s in whole["stretches"])
    assert chosen["selected"] == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("plan", "--topic", "no.such.topic"), 1, "there is no topic no.such.topic"),
        (("plan", "--range", "nonsense"), 2, "the range is not understood"),
        (("plan", "--range", "@2099-01-01:"), 2, "yet to come"),
        (("plan", "--range", "99/1:2"), 2, "has no partition 99"),
        (("plan", "--topic", REQUESTS, "--status", "failed"), 2, "have no status"),
        (("plan", "--topic", LETTERS, "--org", "acme"), 2, "cannot be told apart"),
        (("run",), 2, "it is not said what the replay is"),
        (("run", "--as", "copy"), 2, "there is no --to"),
        (("run", "--as", "copy", "--to", OUTCOMES), 2, "nothing is copied into"),
        (("run", "--as", "copy", "--to", REQUESTS), 2, "its readers would do everything again"),
        (("run", "--as", "copy", "--to", "__consumer_offsets"), 2, "no topic to copy to"),
        (("run", "--as", "accounting", "--topic", REQUESTS), 2, "accounting does not read"),
        (("run", "--effect", "retry-dead-letters"), 2, "has no dead letters"),
        (
            ("run", "--as", "accounting", "--ledger", "http://127.0.0.1:1"),
            2,
            "--ledger is no store",
        ),
        (("run", "--as", "accounting", "--ledger", "redis://127.0.0.1:1"), 1, "was broken off"),
        (("run", "--as", "accounting", "--range", "999999999:"), 1, "there is nothing to replay"),
    ],
)
def test_what_cannot_be_done_is_said_in_three_lines(
    replay: Replays, words: tuple[str, ...], code: int, said: str
) -> None:
    """What, why, and what to do about it; nothing was begun."""
    story = replay.refused(*words, code=code)

    assert said in story
    assert all(f"  {line}:" in story for line in ("why", "fix"))


def test_a_filter_that_matches_nothing_is_told_and_is_no_success(replay: Replays) -> None:
    """An organization that was mistyped would else look like books without a difference."""
    done = replay.ended("run", "--as", "accounting", "--org", "nobody-of-this-name")

    assert done.returncode == 3
    assert (
        "nothing matched: no record of the range is of organization nobody-of-this-name"
        in done.stdout
    )

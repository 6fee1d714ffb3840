"""Webhooks as their receiver sees them: verified by the public library, under ids that stay, whatever a neighbour's receiver does.

The receiver is a server of the test; how long pauses are is the installation's own.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.grants import UNLIMITED, MakeKey
from tests.support.harness.jobs_api import chat, jobs_client, until_ended
from tests.support.harness.running_stack import TALLYGATE, RunningStack
from tests.support.webhook_receiver import WebhookReceiver, webhook_receiver

_SOON_S = 20.0
"""Far above the second that it takes; not so far as a second pause."""


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    """Somebody who takes everything."""
    with webhook_receiver() as running:
        yield running


def _tell(
    admin: httpx.Client, org: str, limits: dict[str, Any] | None = None, **webhooks: Any
) -> None:
    body = {"limits": {**UNLIMITED, **(limits or {})}, "webhooks": webhooks}
    admin.put(f"/orgs/{org}", json=body).raise_for_status()


def _secrets(admin: httpx.Client, org: str) -> list[str]:
    answer = admin.post("/webhooks/secrets", json={"org": org}).raise_for_status()
    return [each["secret"] for each in answer.json()["secrets"]]


async def _job(stack: RunningStack, key: str, content: str, url: str | None = None) -> str:
    """The id of a job that has ended."""
    headers = {} if url is None else {"x-tallygate-webhook-url": url}
    async with jobs_client(stack.api_url, key) as api:
        made = await api.post("/jobs", json=chat(content), headers=headers)
        job_id = str(made.raise_for_status().json()["id"])
        await until_ended(api, job_id)
    return job_id


def _command(stack: RunningStack, *words: str) -> dict[str, Any]:
    ran = subprocess.run(
        [str(TALLYGATE), *words, "--json", "--url", stack.admin_url],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "XDG_STATE_HOME": str(stack.state_dir.parent)},
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def _given_up(stack: RunningStack, org: str) -> dict[str, Any]:
    """The message that was, once it was."""
    found: list[dict[str, Any]] = []
    end_s = time.monotonic() + _SOON_S
    while not found and time.monotonic() < end_s:
        listed = _command(stack, "webhooks", "list", "--org", org, "--state", "given_up")
        found = listed["items"]
        time.sleep(0.2)
    return dict(found[0])


async def test_the_end_of_a_job_is_told_and_verified_by_the_public_library(
    stack: RunningStack, admin: httpx.Client, make_key: MakeKey, receiver: WebhookReceiver
) -> None:
    """With each of two living secrets, and with none of another organization."""
    key = make_key("hooked").key
    _tell(admin, "hooked", url=f"{receiver.url}/all", secrets=[2, 1])
    _tell(admin, "stranger", url=f"{receiver.url}/other")

    job_id = await _job(stack, key, "hello")

    (delivery,) = receiver.until_taken("/all", 1, _SOON_S)
    new, old = _secrets(admin, "hooked")
    told = delivery.verified(new)
    assert told is not None
    assert told == delivery.verified(old)
    assert delivery.verified(_secrets(admin, "stranger")[0]) is None
    assert (told["type"], told["data"]["id"]) == ("job.completed", job_id)
    assert told["data"]["status"] == "completed"
    assert float(told["data"]["cost_usd"]) > 0


def test_ends_of_responses_are_told_and_unwrapped_by_the_sdk_of_openai(
    stack: RunningStack, admin: httpx.Client, make_key: MakeKey, receiver: WebhookReceiver
) -> None:
    """Under OpenAI's names, with the ids that its client was given; one that names an address is told there."""
    key = make_key("hooked-responses").key
    named = f"{receiver.url}/named/7"
    _tell(admin, "hooked-responses", url=f"{receiver.url}/all", allowed=[f"{receiver.url}/named"])
    (secret,) = _secrets(admin, "hooked-responses")
    asked: dict[str, Any] = {
        "response.completed": {"input": "hello"},
        "response.incomplete": {"input": steer(output_tokens=3_000), "max_output_tokens": 2_000},
        "response.failed": {"input": steer(status=400)},
        "response.cancelled": {"input": steer(delay_ms=20_000)},
    }

    with openai.OpenAI(base_url=stack.api_url, api_key=key, webhook_secret=secret) as sdk:
        create = functools.partial(sdk.responses.create, model=MODEL, background=True)
        ids = {create(**more).id: happened for happened, more in asked.items()}
        sdk.responses.cancel(next(one for one, as_ in ids.items() if as_ == "response.cancelled"))
        told_there = create(input="hello", extra_headers={"x-tallygate-webhook-url": named})
        got = receiver.until_taken("/all", len(asked), _SOON_S)
        events: list[Any] = [sdk.webhooks.unwrap(each.body, each.headers) for each in got]
        (there,) = receiver.until_taken("/named/7", 1, _SOON_S)
        named_event: Any = sdk.webhooks.unwrap(there.body, there.headers)
        read = {one: sdk.responses.retrieve(one).status for one in ids}

    assert {event.data.id: event.type for event in events} == ids
    assert {one: f"response.{status}" for one, status in read.items()} == ids
    assert named_event.data.id == told_there.id


async def test_a_job_may_name_an_allowed_address_and_no_other(
    stack: RunningStack, admin: httpx.Client, make_key: MakeKey, receiver: WebhookReceiver
) -> None:
    """The organization is not told of it, too."""
    key = make_key("hooked-jobs").key
    allowed = [f"{receiver.url}/jobs"]
    _tell(admin, "hooked-jobs", url=f"{receiver.url}/mine", allowed=allowed)

    job_id = await _job(stack, key, "hello", f"{receiver.url}/jobs/7")
    async with jobs_client(stack.api_url, key) as api:
        headers = {"x-tallygate-webhook-url": f"{receiver.url}/elsewhere"}
        refused = await api.post("/jobs", json=chat("hello"), headers=headers)

    (delivery,) = receiver.until_taken("/jobs/7", 1, _SOON_S)
    assert json.loads(delivery.body)["data"]["id"] == job_id
    assert refused.status_code == 400
    assert receiver.at("/mine") == []


async def test_a_failed_delivery_is_tried_again_while_a_neighbour_is_delivered_to(
    stack: RunningStack, admin: httpx.Client, make_key: MakeKey, receiver: WebhookReceiver
) -> None:
    """A receiver that hangs costs its own messages time; its next try has the same id and the same bytes."""
    hanging, quick = make_key("hanging").key, make_key("quick").key
    _tell(admin, "hanging", url=f"{receiver.url}/hanging")
    _tell(admin, "quick", url=f"{receiver.url}/quick")
    statuses = iter([503])
    receiver.answer = lambda path: 0 if path == "/hanging" else next(statuses, 200)

    for number in range(12):
        await _job(stack, hanging, f"h{number}")
    began_s = time.monotonic()
    await _job(stack, quick, "q")
    taken = receiver.until_taken("/quick", 1, _SOON_S)

    first, second = receiver.at("/quick")
    assert time.monotonic() - began_s < 10
    assert [first.status, second.status] == [503, 200]
    assert (first.message_id, first.body) == (second.message_id, second.body)
    assert 4.5 < second.at_s - first.at_s < 9
    assert len(taken) == 1
    assert receiver.at("/hanging") != []
    listed = _command(stack, "webhooks", "list", "--org", "hanging")["items"]
    assert {each["state"] for each in listed} == {"waiting"}
    receiver.answer = lambda _: 200


async def test_a_threshold_that_is_reached_is_told(
    stack: RunningStack, admin: httpx.Client, make_key: MakeKey, receiver: WebhookReceiver
) -> None:
    """With the facts of its audit event; ends of jobs are not what this organization wants to hear."""
    key = make_key("spender").key
    quota = {"quotas": [{"amount": 4, "unit": "requests", "period": "month"}]}
    limits = quota | {"thresholds_percent": [50]}
    _tell(admin, "spender", limits, url=f"{receiver.url}/limits", events=["threshold"])

    for number in range(2):
        await _job(stack, key, f"{number}")

    deliveries = receiver.until_taken("/limits", 1, _SOON_S)
    told = deliveries[0].verified(_secrets(admin, "spender")[0])
    assert told is not None
    assert told["type"] == "threshold.reached"
    assert (told["data"]["percent"], told["data"]["limit"]) == (50, 4)
    assert len({each.message_id for each in deliveries}) == 1


async def test_what_was_given_up_is_delivered_anew_by_command(
    stack: RunningStack, admin: httpx.Client, make_key: MakeKey, receiver: WebhookReceiver
) -> None:
    """Under the id that its receiver may know, and so that it is listed as delivered then."""
    key = make_key("gone").key
    _tell(admin, "gone", url=f"{receiver.url}/gone")
    receiver.answer = lambda _: 410
    failed = await _job(stack, key, steer(status=400))
    given_up = _given_up(stack, "gone")

    receiver.answer = lambda _: 200
    tried = _command(stack, "webhooks", "redeliver", "gone", "--dry-run")
    done = _command(stack, "webhooks", "redeliver", "gone")
    (delivery,) = receiver.until_taken("/gone", 1, _SOON_S)
    nothing = _command(stack, "webhooks", "redeliver", "gone")

    assert (given_up["answer"], given_up["tries"]) == ("status 410", 1)
    assert (tried["count"], done["count"]) == (1, 1)
    assert delivery.message_id == given_up["id"] == receiver.at("/gone")[0].message_id
    told = json.loads(delivery.body)
    assert (told["type"], told["data"]["id"]) == ("job.failed", failed)
    assert nothing["count"] == 0

"""Whoever can write to the configuration topic and has no key changes nothing, and is seen."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from schemas.codec import encode
from schemas.events import ConfigEntry
from tests.support.harness.running_stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(300)

KEY = b"organization/demo"
SEEN_WITHIN_S = 20.0


def ask(stack: RunningStack) -> int:
    """The status of a request of the first key's organization."""
    body = {"model": "echo-1", "messages": [{"role": "user", "content": "one two three"}]}
    headers = {"Authorization": f"Bearer {stack.first_key}"}
    url = f"{stack.api_url}/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False).status_code


def forge(stack: RunningStack, value: bytes | None) -> None:
    """Write a record of the organization, as somebody who has the broker's address."""
    producer = Producer({"bootstrap.servers": stack.kafka})
    producer.produce("config.entries.v1", value, KEY)
    assert producer.flush(10) == 0


def admin(stack: RunningStack) -> httpx.Client:
    return httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False)


def forged_events(stack: RunningStack, count: int) -> list[Mapping[str, Any]]:
    """What auditors are told, once there are so many."""
    give_up_s = time.monotonic() + SEEN_WITHIN_S
    while True:
        with admin(stack) as client:
            items = client.get("/audit").raise_for_status().json()["items"]
        found = [item for item in items if item["action"] == "config.forged"]
        if len(found) >= count or time.monotonic() > give_up_s:
            return found
        time.sleep(0.5)


def test_forged_records_change_nothing_and_auditors_are_told(tmp_path: Path) -> None:
    """A deletion, other limits and garbage; also over a restart, and the organization can be changed as before."""
    other = ConfigEntry(
        kind="organization",
        id="demo",
        version=99,
        body='{"limits":{"requests_per_s":0.001,"burst":1}}',
        written_at_ms=0,
        written_by="admin",
    )
    state = tmp_path / "state"
    with running_stack(state) as stack:
        assert ask(stack) == 200
        for value in (encode(other), None, b"garbage", b"\x00\x00\x00\xff\xff" + b"x" * 20):
            forge(stack, value)
        events = forged_events(stack, 4)
        statuses = [ask(stack) for _ in range(3)]
        with admin(stack) as client:
            told = client.get("/orgs/demo").raise_for_status().json()
            problems = client.get("/status").json()["config"]["problems"]
        assert stack.stop() == 0

    assert statuses == [200, 200, 200]
    assert problems == []
    assert told["limits"]["requests_per_s"] != 0.001
    assert [event["detail"]["entity"] for event in events] == [KEY.decode()] * 4

    with running_stack(state) as again:
        assert ask(again) == 200
        with admin(again) as client:
            client.put("/orgs/demo", json={"name": "new"}).raise_for_status()
            assert client.post("/config/sign", json={}).json()["signed"] >= 4
        assert ask(again) == 200
        assert len(forged_events(again, 4)) == 4
        assert again.stop() == 0


def test_a_state_folder_from_before_is_signed_at_its_next_start(tmp_path: Path) -> None:
    """Its log is believed as it is, then written again signed, and from the start after that nothing else is believed."""
    state = tmp_path / "state"
    with running_stack(state) as before:
        assert ask(before) == 200
        assert before.stop() == 0
    # As a version without signatures left it: no secret for keys, and signatures that mean nothing to later ones.
    memory = json.loads((state / "stack.json").read_text(encoding="utf-8"))
    known = {k: v for k, v in memory.items() if k not in ("config_secret", "is_config_signed")}
    (state / "stack.json").write_text(json.dumps(known), encoding="utf-8")
    with running_stack(state) as signing:
        assert ask(signing) == 200
        assert signing.stop() == 0
    for copy in state.glob("data/*/config.json"):
        copy.unlink()
    with running_stack(state) as signed:
        forge(signed, None)
        assert forged_events(signed, 1)
        assert ask(signed) == 200
        assert signed.stop() == 0

"""Configuration that cannot be read, written past the admin API: its entity is closed, nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from deploy.embedded.config_keys import signer_of_stack
from deploy.embedded.state import Memory
from schemas.codec import encode
from schemas.events import ConfigEntry
from schemas.outgoing import Outgoing
from schemas.topics import CONFIG
from tests.support.harness.running_stack import RunningStack, lasting, running_stack

pytestmark = pytest.mark.timeout(240)

_WITHIN_S = 15


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack of its own, whose configuration is spoiled."""
    with running_stack(Path(tmp_path_factory.mktemp("spoiled")) / "state") as found:
        yield found


def _admin(stack: RunningStack) -> httpx.Client:
    return httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False)


def _ask(stack: RunningStack, key: str) -> int:
    answer = httpx.post(
        f"{stack.api_url}/chat/completions",
        json={"model": "echo-1", "messages": [{"role": "user", "content": "one"}]},
        headers={"authorization": f"Bearer {key}"},
        timeout=30,
        trust_env=False,
    )
    return answer.status_code


def _append(stack: RunningStack, *records: tuple[bytes, bytes]) -> int:
    """Write past every check, as an older version or a foreign hand would; the last offset."""
    memory = Memory(**json.loads((stack.state_dir / "stack.json").read_text(encoding="utf-8")))
    signer = signer_of_stack(memory, "admin")

    async def produce() -> int:
        producer = AIOKafkaProducer(bootstrap_servers=stack.kafka)
        await producer.start()
        try:
            signed = [signer.signed(Outgoing(CONFIG, key, value)) for key, value in records]
            placed = [
                await producer.send_and_wait(
                    CONFIG, each.value, each.key, headers=list(each.headers)
                )
                for each in signed
            ]
        finally:
            await producer.stop()
        return int(placed[-1].offset)

    return asyncio.run(produce())


def _entry(kind: str, name: str, body: str, version: int = 1_000) -> tuple[bytes, bytes]:
    entry = ConfigEntry(
        kind=kind, id=name, version=version, body=body, written_at_ms=0, written_by="test"
    )
    return f"{kind}/{name}".encode(), encode(entry)


def _new_key(admin: httpx.Client, org: str) -> str:
    admin.put(f"/orgs/{org}", json={}).raise_for_status()
    return str(admin.post("/keys", json={"org": org}).raise_for_status().json()["key"])


def _status_until(stack: RunningStack, key: str, wanted: int) -> int:
    give_up_s = time.monotonic() + _WITHIN_S
    while (status := _ask(stack, key)) != wanted and time.monotonic() < give_up_s:
        time.sleep(0.1)
    return status


def _wait_until_applied(admin: httpx.Client, offset: int) -> dict[str, Any]:
    """The status once every process has passed the offset."""
    give_up_s = time.monotonic() + _WITHIN_S
    while True:
        found: dict[str, Any] = admin.get("/status").raise_for_status().json()
        offsets = [i["offset"] for i in found["instances"] if i["live"]]
        if min(offsets) >= offset or time.monotonic() > give_up_s:
            return found
        time.sleep(0.1)


def test_a_backend_that_nobody_could_call_is_refused_at_the_door(stack: RunningStack) -> None:
    """Nothing of it reaches a dispatcher."""
    with _admin(stack) as admin:
        answers = [
            admin.put("/backends/bad", json={"url": url}).status_code
            for url in ("http://[::1/v1", "http://h:65536/v1", "http://u:p@h/v1", "http://h/\x00")
        ]

    assert answers == [400] * 4


def test_unreadable_backends_are_closed_and_no_process_ends(stack: RunningStack) -> None:
    """Bytes that are no record, an address that no client can parse."""
    started = lasting(stack.process.pid)
    offset = _append(
        stack,
        _entry("backend", "bad-url", '{"url":"http://[::1/v1"}'),
        _entry("backend", "bad-port", '{"url":"http://h:99999/v1"}'),
        _entry("backend", "deep", "[" * 100_000),
        (b"backend/garbage", b"\xff\x00garbage"),
        (b"no identity", b""),
        (b"backend/none", None),  # type: ignore[arg-type]
        _entry("planet", "earth", "{}"),
    )
    with _admin(stack) as admin:
        found = _wait_until_applied(admin, offset)
        time.sleep(6)  # longer than a probe takes to come round
        served = _ask(stack, stack.first_key)
        healed = admin.put("/backends/bad-url", json={"url": "http://127.0.0.1:1/v1"})

    closed = set(found["config"]["closed"])
    assert {"backend/bad-url", "backend/garbage", "backend/none"} <= closed
    assert lasting(stack.process.pid) == started
    assert served == 200
    assert healed.status_code == 200


def test_who_belongs_to_a_closed_organization_waits_and_others_do_not(
    stack: RunningStack,
) -> None:
    """503 instead of older limits or none; a valid entry opens it again."""
    with _admin(stack) as admin:
        theirs, ours = _new_key(admin, "closed-org"), _new_key(admin, "open-org")
        before = _ask(stack, theirs), _ask(stack, ours)
        _append(stack, _entry("organization", "closed-org", json.dumps({"limits": {"colour": 1}})))
        closed = _status_until(stack, theirs, 503)
        other = _ask(stack, ours)
        admin.put("/orgs/closed-org", json={}).raise_for_status()
        again = _status_until(stack, theirs, 200)

    assert before == (200, 200)
    assert (closed, other, again) == (503, 200, 200)


def test_a_record_of_a_later_version_is_waited_for_and_no_process_ends(stack: RunningStack) -> None:
    """What was in force stays in force; nobody writes past it. Runs last: nothing heals this stack."""
    started = lasting(stack.process.pid)
    _append(stack, (b"backend/later", b"\x00\x00\x00\xff\xff" + b"x" * 50))
    with _admin(stack) as admin:
        give_up_s = time.monotonic() + _WITHIN_S
        while not (alarm := admin.get("/status").json()["config"]["alarm"]):
            assert time.monotonic() < give_up_s, "nobody says that a later version is waited for"
        written = admin.put("/orgs/later-org", json={}).status_code
    served = _ask(stack, stack.first_key)

    assert alarm.startswith("unknown_schema")
    assert (served, written) == (200, 503)
    assert lasting(stack.process.pid) == started

"""Signed keys on two ingress processes: what is refused, that no backend hears of it, and what a revoked key still gets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.fakes.running_backend import running_backend
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack, lasting, running_stack
from tests.support.signing import signed

MODEL, PATH = "fake-1", "/v1/chat/completions"
REVOKED_WITHIN_S = 30.0
"""What users are told; the goal is a second."""
pytestmark = pytest.mark.timeout(180, func_only=True)
Doors = tuple[str, str]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningStack, Oracle]]:
    """A stack with two ingress processes, and the log of its backend."""
    folder = tmp_path_factory.mktemp("signed")
    with (
        running_backend("fake-a", folder / "fake-a.jsonl") as backend,
        running_stack(folder / "state", [backend], {"ingress": 2}) as stack,
    ):
        with _admin(stack) as admin:
            model = {"backends": [{"backend": "fake-a"}]}
            admin.put(f"/models/{MODEL}", json=model).raise_for_status()
            admin.put("/orgs/signed", json={}).raise_for_status()
        yield stack, Oracle([backend])


@pytest.fixture
def stack(parts: tuple[RunningStack, Oracle]) -> RunningStack:
    return parts[0]


@pytest.fixture
def oracle(parts: tuple[RunningStack, Oracle]) -> Oracle:
    return parts[1]


@pytest.fixture
def doors(stack: RunningStack) -> Doors:
    """The addresses of both ingress processes."""
    ports: dict[str, str] = {}
    for pid in lasting(stack.process.pid):
        lines = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        seen = dict(line.split("=", 1) for line in lines if "=" in line)
        if seen.get("TALLYGATE_INSTANCE_ID", "").startswith("ingress-"):
            ports[seen["TALLYGATE_INSTANCE_ID"]] = seen["TALLYGATE_PORT"]
    first, second = (f"http://127.0.0.1:{ports[f'ingress-{n}']}" for n in range(2))
    return first, second


def _admin(stack: RunningStack) -> httpx.Client:
    return httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False)


def _key(stack: RunningStack, **fields: Any) -> dict[str, Any]:
    limits = {"requests_per_s": 100_000, "burst": 100_000}
    with _admin(stack) as admin:
        answer = admin.post("/keys", json={"org": "signed", "limits": limits, **fields})
    made: dict[str, Any] = answer.raise_for_status().json()
    return made


def _body(text: str) -> bytes:
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}]}).encode()


def _send(door: str, key: str, headers: dict[str, str], body: bytes) -> httpx.Response:
    own = {"content-type": "application/json", "x-api-key": key}
    with httpx.Client(trust_env=False, timeout=30) as client:
        return client.post(f"{door}{PATH}", content=body, headers=own | headers)


def _told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_request_is_served_once_by_either_process(
    stack: RunningStack, oracle: Oracle, doors: Doors
) -> None:
    """The same again is refused by the process that served it and by the other one, at once."""
    made, body = _key(stack, signed=True), _body("served once")
    headers = signed(made["signing_secret"], "POST", PATH, body, int(time.time()))
    before = len(oracle.calls())

    first = _send(doors[0], made["key"], headers, body)
    elsewhere, again = (_send(door, made["key"], headers, body) for door in reversed(doors))

    assert first.status_code == 200
    assert _told(elsewhere) == _told(again) == (401, "signature_replayed")
    assert len(oracle.calls()) == before + 1


def test_what_is_not_signed_rightly_reaches_no_backend(
    stack: RunningStack, oracle: Oracle, doors: Doors
) -> None:
    """One changed byte, a timestamp of 301 seconds ago, another secret, none at all."""
    made, body, now_s = _key(stack, signed=True), _body("forged"), int(time.time())
    secret, before = made["signing_secret"], len(oracle.calls())
    cases = [
        (signed(secret, "POST", PATH, body.replace(b"forged", b"Forged"), now_s), "invalid"),
        (signed(secret, "POST", f"{PATH}?x=1", body, now_s), "invalid"),
        (signed("tg_sign_guessed", "POST", PATH, body, now_s), "invalid"),
        (signed(secret, "POST", PATH, body, now_s - 301), "expired"),
        (signed(secret, "POST", PATH, body, now_s + 302), "expired"),
        ({}, "missing"),
    ]
    told = [_told(_send(doors[0], made["key"], headers, body)) for headers, _ in cases]

    assert told == [(401, f"signature_{code}") for _, code in cases]
    assert len(oracle.calls()) == before


def test_both_secrets_live_until_the_grace_ends(stack: RunningStack, doors: Doors) -> None:
    """Of the key and for signing; without a grace the earlier ones end on both processes once the command answers."""
    old = _key(stack, signed=True)
    with _admin(stack) as admin:
        path = f"/keys/{old['key_id']}/rotate"
        new = admin.post(path, json={"grace_s": 60}).raise_for_status().json()

    def statuses(made: dict[str, Any]) -> list[int]:
        found = []
        for number, door in enumerate(doors):
            body = _body(f"{made['generation']} {number} {time.time()}")
            headers = signed(made["signing_secret"], "POST", PATH, body, int(time.time()))
            found.append(_send(door, made["key"], headers, body).status_code)
        return found

    assert (new["key_id"], new["generation"]) == (old["key_id"], 2)
    assert (statuses(old), statuses(new)) == ([200, 200], [200, 200])
    with _admin(stack) as admin:
        last = admin.post(path, json={}).raise_for_status().json()
    assert [statuses(each) for each in (old, new, last)] == [[401, 401], [401, 401], [200, 200]]


def test_a_key_that_is_revoked_under_load_is_refused_everywhere(
    stack: RunningStack, doors: Doors
) -> None:
    """Each process is asked all the time; none serves it after the command answered, and its refusal stays."""
    made, is_over = _key(stack), threading.Event()
    answers: dict[str, list[tuple[float, int]]] = {door: [] for door in doors}

    def ask(door: str) -> None:
        own = {"content-type": "application/json", "x-api-key": made["key"]}
        with httpx.Client(trust_env=False, timeout=30, headers=own) as client:
            while not is_over.is_set():
                sent_s = time.monotonic()
                status = client.post(f"{door}{PATH}", content=_body("load")).status_code
                answers[door].append((sent_s, status))

    threads = [threading.Thread(target=ask, args=(door,)) for door in doors for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    with _admin(stack) as admin:
        began_s = time.monotonic()
        admin.post(f"/keys/{made['key_id']}/revoke").raise_for_status()
        answered_s = time.monotonic()
    time.sleep(2)
    is_over.set()
    for thread in threads:
        thread.join(30)

    print(f"the command answered after {answered_s - began_s:.3f} s")
    for door, seen in answers.items():
        served = [sent_s for sent_s, status in seen if status == 200]
        refused = [sent_s for sent_s, status in seen if status == 401]
        print(f"{door}: {len(seen)} requests, refused after {min(refused) - began_s:.3f} s")
        assert {status for _, status in seen} == {200, 401}
        assert max(served) < answered_s
        assert min(refused) - began_s < REVOKED_WITHIN_S

"""What an operator can find out and do: timelines, audit, dead letters, lag, desired state."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from tests.support.harness.gateway_client import MODEL, GatewayClient
from tests.support.harness.grants import MakeKey
from tests.support.harness.running_stack import TALLYGATE, RunningStack

pytestmark = pytest.mark.timeout(90, func_only=True)

CommandLine = Callable[..., subprocess.CompletedProcess[str]]
DEADLINE_S = 20.0
SECRET_WORDS = "the words of the prompt"


@pytest.fixture
def tallygate(stack: RunningStack) -> CommandLine:
    """Runs one command against the stack."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(TALLYGATE), *arguments, "--url", stack.admin_url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


def until(ask: Callable[[], Any], is_enough: Callable[[Any], bool]) -> Any:
    """The answer once it is enough, or the last one before the deadline."""
    give_up_s = time.monotonic() + DEADLINE_S
    while not is_enough(answer := ask()) and time.monotonic() < give_up_s:
        time.sleep(0.2)
    return answer


def timeline(admin: httpx.Client, request_id: str, wanted: set[str], **params: str) -> Any:
    """The request's timeline once it has the steps that are wanted."""

    def ask() -> Any:
        answer = admin.get(f"/requests/{request_id}", params=params)
        return answer.json() if answer.is_success else {"steps": []}

    return until(ask, lambda found: wanted <= {step["what"] for step in found["steps"]})


def facts(found: Any, what: str) -> dict[str, Any]:
    """The facts of the first step of a kind."""
    return next(dict(step["facts"]) for step in found["steps"] if step["what"] == what)


async def test_the_timeline_of_a_completed_request_has_all_its_records(
    client: GatewayClient, admin: httpx.Client, make_key: MakeKey
) -> None:
    """What the client was told is what the records say."""
    grant = make_key("why-org", {"budgets": [{"usd": "5", "period": "total"}]})
    reply = await client.chat(grant.key, SECRET_WORDS, max_tokens=20)
    wanted = {"accepted", "admitted", "attempt", "finished", "usage"}

    found = await asyncio.to_thread(timeline, admin, reply.request_id, wanted)

    assert [step["what"] for step in found["steps"]] == [
        "accepted", "admitted", "attempt", "finished", "usage",
    ]  # fmt: skip
    assert (found["org"], found["status"], found["http_status"]) == ("why-org", "completed", 200)
    assert found["search"]["gave_up"] is None
    assert facts(found, "accepted")["key_id"] == grant.key_id
    (held,) = [h for h in facts(found, "admitted")["holds"] if h["limit"] is not None]
    assert held["limit"] == 5_000_000_000
    assert facts(found, "admitted")["price"]["version"].startswith(f"{MODEL}@")
    usage = reply.usage
    assert usage is not None
    called = facts(found, "attempt")
    assert called["input_tokens"] == usage["prompt_tokens"]
    assert called["output_tokens"] == usage["completion_tokens"]
    assert called["cost_nano_usd"] == facts(found, "usage")["cost_nano_usd"]
    assert SECRET_WORDS not in json.dumps(found)


async def test_the_command_shows_the_timeline_and_the_payload_only_when_asked(
    client: GatewayClient, admin: httpx.Client, make_key: MakeKey, tallygate: CommandLine
) -> None:
    """Five aligned lines and what belongs to them."""
    grant = make_key("why-cli-org")
    reply = await client.chat(grant.key, SECRET_WORDS, max_tokens=20)
    await asyncio.to_thread(timeline, admin, reply.request_id, {"usage"}, org="why-cli-org")

    plain = await asyncio.to_thread(tallygate, "requests", "show", reply.request_id)
    full = await asyncio.to_thread(
        tallygate, "requests", "show", reply.request_id, "--org", "why-cli-org", "--payload"
    )

    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.startswith(f"{reply.request_id}  why-cli-org  completed 200")
    assert "+0 ms" in plain.stdout
    assert "inference.dispatch.v1-" in plain.stdout
    assert SECRET_WORDS not in plain.stdout
    assert SECRET_WORDS in full.stdout


async def test_a_refusal_is_explained_by_its_limit(
    client: GatewayClient, admin: httpx.Client, make_key: MakeKey
) -> None:
    """Which limit, what was used of it, and what it is; the auditor finds the same."""
    grant = make_key("why-refused-org", {"budgets": [{"usd": "0.000000001", "period": "total"}]})
    reply = await client.chat(grant.key, "hello")

    wanted = {"accepted", "finished", "audit"}
    found = await asyncio.to_thread(timeline, admin, reply.request_id, wanted)
    params = {"request_id": reply.request_id}
    audited = (await asyncio.to_thread(admin.get, "/audit", params=params)).json()["items"]

    assert (found["status"], found["http_status"]) == ("refused", 402)
    denial = facts(found, "finished")["denial"]
    assert (denial["limit_type"], denial["current_usage"], denial["limit"]) == ("budget", 0, 1)
    assert not any(step["what"] in ("admitted", "attempt") for step in found["steps"])
    (event,) = audited
    assert (event["action"], event["org"]) == ("refused", "why-refused-org")
    assert event["actor"] == grant.key_id
    assert event["detail"]["limit_id"] == denial["limit_id"]


def test_an_id_without_records_is_not_found(admin: httpx.Client) -> None:
    """And what is no request id is told so."""
    unknown = admin.get("/requests/0193a5f0-0000-7000-8000-000000000000")
    nonsense = admin.get("/requests/req-1")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (nonsense.status_code, nonsense.json()["code"]) == (400, "invalid_request")


def test_administrative_writes_are_listed_newest_first(
    admin: httpx.Client, tallygate: CommandLine
) -> None:
    """By organization, as a table and as JSON."""
    for burst in (1, 2):
        admin.put("/orgs/audited-org", json={"limits": {"burst": burst}}).raise_for_status()

    def ask() -> Any:
        return json.loads(tallygate("audit", "list", "--org", "audited-org", "--json").stdout)

    found = until(ask, lambda answer: len(answer["items"]) == 2)

    assert [event["action"] for event in found["items"]] == ["admin.put", "admin.put"]
    assert [event["detail"]["version"] for event in found["items"]] == [2, 1]
    assert "audited-org" in tallygate("audit", "list", "--limit", "1000").stdout


def test_a_poisoned_record_is_listed_shown_and_retried_once(
    stack: RunningStack, admin: httpx.Client, tallygate: CommandLine
) -> None:
    """Its retry cannot be read either, so it comes back; the first letter stays where it is."""
    producer = Producer({"bootstrap.servers": stack.kafka})
    poison = b"\x00garbage"
    headers: dict[str, str | bytes | None] = {"request_id": b"poison-1"}
    producer.produce("inference.requests.v1", poison, "poison-org", headers=headers)
    assert producer.flush(10) == 0

    def letters() -> Any:
        topics = admin.get("/dlq").raise_for_status().json()["items"]
        (requests,) = [t for t in topics if t["topic"] == "inference.requests.v1"]
        return [letter for letter in requests["newest"] if letter["key"] == "poison-org"]

    (first,) = until(letters, lambda found: len(found) == 1)
    shown = json.loads(tallygate("dlq", "show", first["id"], "--json").stdout)
    dry = tallygate("dlq", "retry", first["id"], "--dry-run")
    retried = tallygate("dlq", "retry", first["id"], "--json")
    twice = tallygate("dlq", "retry", first["id"])
    found = until(letters, lambda found: len(found) == 2)

    assert shown["hex"] == poison.hex()
    assert shown["reason"]["topic"] == "inference.requests.v1"
    assert (dry.returncode, dry.stdout.split()[:2]) == (0, ["would", "append"])
    assert json.loads(retried.stdout)["headers"] == {
        "request_id": "poison-1",
        "x-dlq-attempts": "1",
    }
    assert (twice.returncode, "--again" in twice.stderr) == (4, True)
    assert sorted(letter["attempts"] for letter in found) == [0, 1]
    assert "poison-org" in tallygate("dlq", "list").stdout


async def test_lag_is_zero_once_everything_is_acknowledged(
    client: GatewayClient, make_key: MakeKey, tallygate: CommandLine
) -> None:
    """Every group, by partition."""
    grant = make_key("lag-org")
    await client.chat(grant.key, "hello", max_tokens=5)

    def ask() -> Any:
        return json.loads(tallygate("lag", "--json").stdout)["items"]

    found = await asyncio.to_thread(until, ask, lambda rows: not any(row["lag"] for row in rows))

    assert {row["group"] for row in found} == {
        "tallygate-limiter_worker", "tallygate-dispatcher", "tallygate-accounting",
    }  # fmt: skip
    assert [row for row in found if row["lag"] or row["lag_ms"]] == []
    assert any(row["committed"] for row in found)


def test_a_file_is_applied_as_a_whole_or_not_at_all(
    admin: httpx.Client, tallygate: CommandLine, tmp_path: Path
) -> None:
    """Diff, apply, nothing left to do; and one bad entry keeps all others out."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("orgs: {filed-org: {limits: {burst: 7}}}\nprojects: {filed: {org: filed-org}}")
    bad.write_text("orgs: {other-org: {}}\nprojects: {lost: {org: nowhere}, odd: {orgs: x}}")

    planned = tallygate("config", "diff", "-f", str(good))
    nothing_yet = admin.get("/orgs/filed-org").status_code
    applied = tallygate("config", "apply", "-f", str(good))
    again = tallygate("config", "apply", "-f", str(good), "--json")
    refused = tallygate("config", "apply", "-f", str(bad))

    assert planned.stdout.splitlines() == ["+ orgs.filed-org", "+ projects.filed"], planned.stderr
    assert nothing_yet == 404
    assert applied.stdout == planned.stdout
    assert json.loads(again.stdout) == {"applied": True, "changes": []}
    assert admin.get("/orgs/filed-org").json()["limits"]["burst"] == 7
    assert refused.returncode == 1
    assert "projects.odd.org: missing" in refused.stderr
    assert admin.get("/orgs/other-org").status_code == 404


def test_backends_are_listed_with_what_each_dispatcher_sees(
    admin: httpx.Client, tallygate: CommandLine
) -> None:
    """Nothing has failed here."""

    def ask() -> Any:
        items = admin.get("/backends").raise_for_status().json()["items"]
        return {i["id"]: i["health"] for i in items if i["id"].startswith("fake-")}

    found = until(ask, lambda health: all(health.values()))

    assert found.keys() >= {"fake-a", "fake-b"}
    assert all(reports for reports in found.values())
    assert "dispatcher-0=" in tallygate("backends", "list").stdout


def test_config_status_names_every_process(tallygate: CommandLine) -> None:
    """Each with the offset that it has applied."""
    found = json.loads(tallygate("config", "status", "--json").stdout)

    roles = {instance["role"] for instance in found["instances"] if instance["live"]}
    assert roles == {"admin", "ingress", "batches", "limiter_worker", "dispatcher", "accounting"}
    assert found["config"]["problems"] == []
    assert "ingress-0" in tallygate("config", "status").stdout

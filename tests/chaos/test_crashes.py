"""Every process is killed once under load, and at last the ledger is emptied: nothing is lost, doubled or miscounted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from tests.chaos.rig import FLUSHED, Rig, running_rig
from tests.chaos.run import Report, render, run
from tests.chaos.snapshots_told import lacking
from tests.chaos.stores import ledger_servers, metas, primaries
from tests.support.harness.gateway_client import MODEL
from tests.support.harness.kafka_log import KafkaLog
from tests.support.harness.running_stack import descendants, is_alive, running_stack

pytestmark = pytest.mark.timeout(240)
SECONDS_EACH = 9.0
SEED = 20_260_501
LIVES = 3
# The dispatcher first: what it leaves behind takes the longest to end.
ORDER = ("dispatcher", "limiter_worker", "kafka", "accounting", "ingress", "ledger", "bus", FLUSHED)
ORPHANS_END_S = 10.0


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One stack for all kills."""
    with running_rig(tmp_path_factory.mktemp("chaos")) as running:
        yield running


@pytest.fixture(scope="module")
def report(rig: Rig) -> Report:
    """The run that all tests look at."""
    made = run(rig, ORDER, SECONDS_EACH, SEED)
    print(render(made))
    return made


def test_every_accepted_request_ends_within_a_minute(report: Report) -> None:
    """No request and no job is lost, whatever was killed under it."""
    assert len(report.evidence.accepted) > 1_000
    assert report.findings.lost == ()


def test_every_killed_process_is_replaced(report: Report) -> None:
    """The supervisor had a successor running for each."""
    assert [strike.role for strike in report.crashes.strikes] == list(ORDER)
    assert [strike.role for strike in report.crashes.strikes if strike.back_after_s is None] == []


def test_a_ledger_that_was_killed_or_emptied_was_made_again(report: Report, rig: Rig) -> None:
    """Each life of a shard has an epoch: the first, one after its server was killed, one after it was emptied."""
    assert report.crashes.strikes
    servers = ledger_servers(rig.state_dir)
    epochs = [meta.epoch for meta in metas(servers).values()]
    # Of a cluster one server was killed, and all were emptied.
    least = LIVES if len(primaries(servers)) == 1 else LIVES - 1

    assert len(epochs) > 1
    assert min(epochs) >= least
    assert max(epochs) >= LIVES


def test_every_backend_call_is_billed_once(report: Report) -> None:
    """Usage lines and the backends' own logs match, call by call."""
    assert len(report.evidence.calls) > 1_000
    assert report.findings.unbilled == ()
    assert report.findings.doubled == ()
    assert report.findings.contradicted == ()


def test_clients_are_told_what_is_in_the_books(report: Report) -> None:
    """An answer's text is a backend's, its cost the booked one, its outcome a success."""
    assert report.findings.misinformed == ()


def test_nothing_stays_on_hold_and_the_sums_agree(report: Report) -> None:
    """All holds returned, and the ledger is what the log says."""
    assert report.findings.unreleased == ()


def test_snapshots_have_whatever_was_booked(report: Report, rig: Rig) -> None:
    """Whoever was killed after a `book`: what it changed is in the log, where a rebuild finds it."""
    costs = {line.usage_id: line.cost_nano_usd or 0 for line in report.evidence.usage}

    assert lacking(KafkaLog(rig.stack.kafka), sum(costs.values())) == 0


def test_a_killed_stack_leaves_no_orphan_and_starts_again(report: Report, rig: Rig) -> None:
    """Kill -9 of the supervisor ends all it started; on the same folder everything is still there.

    Runs last: it uses up the stack.
    """
    pids = descendants(rig.stack.process.pid)
    assert len(pids) >= len(ORDER)

    os.kill(rig.stack.process.pid, signal.SIGKILL)
    rig.stack.process.wait()
    end_s = time.monotonic() + ORPHANS_END_S
    while any(map(is_alive, pids)) and time.monotonic() < end_s:
        time.sleep(0.1)
    assert [pid for pid in pids if is_alive(pid)] == []

    with running_stack(rig.state_dir, rig.backends) as second:
        answer = httpx.post(
            f"{second.api_url}/chat/completions",
            json={"model": MODEL, "messages": [{"role": "user", "content": "again"}]},
            headers={"Authorization": f"Bearer {rig.grants[0].key}"},
            timeout=60.0,
            trust_env=False,
        )
        ledger = replace(rig, stack=second).ledger_at_rest()
    assert answer.status_code == 200, answer.text
    assert ledger.difference == 0
    assert not any(ledger.held.values())

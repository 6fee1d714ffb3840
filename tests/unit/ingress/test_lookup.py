"""Where a request's end is looked for, and what its absence means."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from ingress.requests.request_state import Ended, Indeterminate, NeverRan, Open, RequestState
from schemas.codec import encode
from schemas.events import RecordRef, RequestFinished
from schemas.frames import Frame, Terminal
from schemas.ids import uuid7
from schemas.ledger.model.attempts import Attempt
from schemas.ledger.states import State
from schemas.runtime.kafka.outcome_lookup import Acceptance, InLog
from schemas.runtime.kafka.results import referring
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway
from tests.support.outcomes import OUTCOME

REQUEST = uuid7(NOW_MS - 1_000, bytes(10))


async def _found(gateway: Gateway, deadline_ms: int = NOW_MS + 1_000) -> RequestState:
    return await gateway.lookup.find("acme", REQUEST, deadline_ms)


def _in_state(state: State, outcome: bytes = b"") -> Gateway:
    gateway = Gateway()
    gateway.ledger.model.attempts["acme", REQUEST] = Attempt(state, outcome=outcome)
    return gateway


def _with_outcome(gateway: Gateway, outcome: RequestFinished = OUTCOME) -> Gateway:
    gateway.traces.outcomes[REQUEST] = outcome
    return gateway


@pytest.mark.parametrize(
    ("state", "memory"),
    [
        ("RESERVED", Open("queued")),
        ("RUNNING", Open("running")),
        ("RESTORED", Open("running")),
        ("REFUSED", Open("queued")),
    ],
)
async def test_what_has_not_ended_is_open(state: State, memory: Open) -> None:
    """A refusal that is not in the log yet is on its way there."""
    assert await _found(_in_state(state)) == memory


async def test_the_frames_go_first() -> None:
    """They tell most, and are there before the outcome."""
    gateway = _in_state("RUNNING")
    end = Terminal(200, body=b"on the bus")
    gateway.bus.streams[REQUEST] = [Frame(REQUEST, 1, 1, end)]

    assert await _found(gateway) == Ended(end, is_on_bus=True)


async def test_a_frame_that_tells_of_lost_frames_is_not_the_end() -> None:
    """A dispatcher that took over sends it, and the result may be kept elsewhere."""
    gateway = _in_state("FINISHED", encode(OUTCOME))
    lost = Terminal(502, error_code="result_lost")
    gateway.bus.streams[REQUEST] = [Frame(REQUEST, 1, 1, lost)]

    memory = await _found(gateway)

    assert isinstance(memory, Ended)
    assert memory.terminal.body == b"{}"


async def test_the_ledger_keeps_the_outcome_of_a_finished_request() -> None:
    """Before it is in the log."""
    memory = await _found(_in_state("FINISHED", encode(OUTCOME)))

    assert isinstance(memory, Ended)
    assert (memory.terminal.body, memory.is_on_bus) == (b"{}", False)


@pytest.mark.parametrize("state", ["REFUSED", "BOOKED"])
async def test_the_log_tells_what_the_others_forgot(state: State) -> None:
    """A refusal's frames are gone within a minute."""
    memory = await _found(_with_outcome(_in_state(state)))

    assert isinstance(memory, Ended)


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("CANCELLED", "request_cancelled"),
        ("VOIDED", "deadline_exceeded"),
        ("UNKNOWN", "upstream_interrupted"),
    ],
)
async def test_some_states_are_an_end(state: State, code: str) -> None:
    """Even while their outcome is not written."""
    memory = await _found(_in_state(state))

    assert isinstance(memory, Ended)
    assert memory.terminal.error_code == code


async def test_a_request_without_a_trace_is_queued_until_its_deadline() -> None:
    """It may still be on its way; afterwards it never ran, unless the log could not be read."""
    gateway = Gateway()

    assert await _found(gateway) == Open("queued")
    assert await _found(gateway, NOW_MS) == NeverRan()
    gateway.traces.is_readable = False
    assert await _found(gateway, NOW_MS) == Indeterminate()


async def test_what_was_accepted_and_has_no_outcome_is_open_however_late() -> None:
    """A limiter that was away writes that it expired once it is back."""
    gateway = Gateway()
    gateway.traces.accepted[REQUEST] = InLog(NOW_MS, is_in_time=True)

    assert await _found(gateway, NOW_MS - 1) == Open("queued")
    assert isinstance(await _found(_with_outcome(gateway), NOW_MS - 1), Ended)


async def test_look_ups_of_one_organization_leave_readers_to_the_others() -> None:
    """Its own are unsure beyond their share; what the ledger tells needs none."""
    gateway, over = Gateway(), asyncio.Event()
    find = gateway.traces.find_accepted

    async def slow(org: str, request_id: str, until_ms: int) -> Acceptance:
        if org == "loud":
            await over.wait()
        return await find(org, request_id, until_ms)

    gateway.traces.find_accepted = slow  # type: ignore[method-assign]
    recollect = gateway.lookup.find
    loud = [asyncio.create_task(recollect("loud", REQUEST, NOW_MS)) for _ in range(200)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(1):
        quiet = await recollect("quiet", REQUEST, NOW_MS)
    over.set()
    memories = await asyncio.gather(*loud)

    assert quiet == NeverRan()
    assert 0 < memories.count(Indeterminate()) < 200


async def test_an_end_that_is_nowhere_any_more_is_lost() -> None:
    """It was booked, so it ran or was refused."""
    memory = await _found(_in_state("BOOKED"), NOW_MS)

    assert isinstance(memory, Ended)
    assert memory.terminal.error_code == "result_lost"


PLACE = RecordRef(topic="inference.outcomes.v1", partition=3, offset=17)
RESULT = RecordRef(topic="inference.results.v1", partition=3, offset=2)
LARGE = b"x" * 5_000


def _booked(state: State = "FINISHED") -> Gateway:
    """The ledger knows where the outcome stands."""
    gateway = _in_state(state)
    gateway.ledger.model.attempts["acme", REQUEST].booked[""] = (3, 17)
    gateway.records.values["inference.outcomes.v1", 3, 17] = encode(OUTCOME)
    return gateway


def _elsewhere(gateway: Gateway, kept: bytes = LARGE) -> Gateway:
    """The result stands in a record of its own."""
    whole = msgspec.structs.replace(OUTCOME, result=LARGE)
    gateway.records.values["inference.outcomes.v1", 3, 17] = encode(referring(whole, RESULT))
    gateway.records.values["inference.results.v1", 3, 2] = kept
    return gateway


async def test_what_is_booked_is_read_where_it_stands() -> None:
    """One record, and no search."""
    gateway = _booked()
    memory = await _found(gateway)

    assert isinstance(memory, Ended)
    assert memory.terminal.body == b"{}"
    assert (gateway.records.reads, gateway.traces.reads) == (1, 0)


async def test_a_large_result_is_read_through_its_reference() -> None:
    """Whether the outcome comes from the log or is still in the ledger."""
    in_log = _elsewhere(_booked())
    outcome = in_log.records.values["inference.outcomes.v1", 3, 17]
    in_ledger = _elsewhere(_in_state("FINISHED", outcome))
    for gateway in (in_log, in_ledger):
        memory = await _found(gateway)

        assert isinstance(memory, Ended)
        assert (memory.terminal.http_status, memory.terminal.body) == (200, LARGE)


async def test_a_result_that_is_another_one_is_lost() -> None:
    """Bytes that do not match their digest are nobody's answer."""
    memory = await _found(_elsewhere(_booked(), kept=b"y" * 5_000))

    assert isinstance(memory, Ended)
    assert memory.terminal.error_code == "result_lost"


async def test_a_result_that_the_log_forgot_is_lost() -> None:
    """Retention took it."""
    gateway = _elsewhere(_booked())
    del gateway.records.values["inference.results.v1", 3, 2]
    memory = await _found(gateway)

    assert isinstance(memory, Ended)
    assert memory.terminal.error_code == "result_lost"


async def test_a_log_that_is_away_leaves_it_open_how_a_request_ended() -> None:
    """Unless its state says that much."""
    finished, cancelled = _booked(), _booked("CANCELLED")
    finished.records.is_away = cancelled.records.is_away = True
    memory = await _found(cancelled)

    assert await _found(finished) == Indeterminate()
    assert isinstance(memory, Ended)
    assert memory.terminal.error_code == "request_cancelled"


async def test_an_outcome_that_a_newer_version_wrote_is_nothing_to_be_sure_of() -> None:
    """It is there, so it is not absent, and it cannot be told."""
    assert await _found(_in_state("FINISHED", b"\x00\x00\x00\x03\xe7newer")) == Indeterminate()

"""Responses that run in the background and are told as events, to their creator and to whoever comes later."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from schemas.frames import Started, Terminal
from schemas.job_facts import read_facts
from schemas.ledger.model.attempts import Attempt
from tests.support.configuration import NOW_MS
from tests.support.followed import (
    ASKED,
    DONE,
    OPENING,
    TOLD,
    USAGE,
    chunk,
    data_in,
    end_in_ledger,
    events_in,
    gateway_of,
    get,
    id_of,
    listening,
    post,
    reading,
    tell,
    types_in,
)


async def test_it_is_queued_then_told_as_it_comes() -> None:
    """Under numbers from 0 on; with what it repeats, to whoever listens."""
    gateway = gateway_of(*TOLD)
    answer = await post(gateway)
    told = data_in(answer)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [each["type"] for each in told[:4]] == [
        *OPENING,
        "response.in_progress",
        "response.output_item.added",
    ]
    assert [each["sequence_number"] for each in told] == list(range(len(told)))
    first, last = told[0]["response"], told[-1]["response"]
    assert (first["status"], last["status"]) == ("queued", "completed")
    assert (first["metadata"], last["metadata"]) == ({"a": "b"}, {"a": "b"})
    assert last["output"][0]["content"][0]["text"] == "hi there"


async def test_it_runs_as_a_job_whose_events_can_be_read() -> None:
    """Its frames come here, and its result is kept."""
    gateway = gateway_of(*TOLD)
    await post(gateway, **{"x-request-timeout": "7"})
    (accepted,) = gateway.log.accepted
    facts = read_facts(accepted.job or "")

    assert (accepted.background, accepted.keep_result, accepted.stream) == (True, True, True)
    assert (accepted.reply_to, accepted.deadline_ms) == ("ing:ingress-0", NOW_MS + 7_000)
    assert facts is not None
    assert facts.events_of == "responses"
    assert (await gateway.client.get(f"/v1/jobs/{accepted.request_id}")).status_code == 200


async def test_it_goes_on_after_each_number_that_a_client_has() -> None:
    """The same events with the same ids; the log has one request, whoever came how often."""
    gateway = gateway_of(*TOLD)
    first = await post(gateway)
    events = events_in(first)
    whole = await get(gateway, id_of(gateway), stream="true")

    assert events_in(whole) == events
    for number in range(len(events)):
        rest = await get(gateway, id_of(gateway), stream="true", starting_after=number)
        assert events_in(rest) == events[number + 1 :]
    assert len(gateway.log.records) == 1


async def test_it_goes_on_after_each_event_id_too() -> None:
    """As browsers come back, by GET, whatever their address says; or with the body once more. The end has no id."""
    gateway = gateway_of(*TOLD)
    events = events_in(await post(gateway))
    assert [event for event in events if "\nid: " not in event] == events[-4:]
    gateway.ledger.model.attempts["acme", gateway.log.accepted[0].request_id] = Attempt("BOOKED")
    for place, event in enumerate(events[:-4]):
        header = {"last-event-id": event.split("\nid: ")[1].strip()}
        got = await get(gateway, id_of(gateway), header, stream="true", starting_after=0)
        posted = await post(gateway, **header)
        assert (
            events_in(got)[2:] == events[place + 1 :][max(0, 1 - place) + 1 :]
            or events_in(got) == events[place + 1 :]
        )
        assert events_in(posted) == events[place + 1 :]
    assert len(gateway.log.records) == 1


async def test_who_has_more_than_there_is_hears_where_it_ends() -> None:
    """The error has the last number; a client that has everything hears nothing."""
    gateway = gateway_of(*TOLD)
    last = len(events_in(await post(gateway))) - 1
    nothing = await get(gateway, id_of(gateway), stream="true", starting_after=last)
    beyond = await get(gateway, id_of(gateway), stream="true", starting_after=last + 1)
    (error,) = data_in(beyond)

    assert (nothing.status_code, nothing.text) == (200, "")
    assert (error["type"], error["sequence_number"]) == ("error", last)
    assert (error["error"]["code"], error["error"]["param"]) == (
        "invalid_request",
        "starting_after",
    )


async def test_two_who_listen_while_it_runs_hear_all_of_it() -> None:
    """From where each of them is; the creator's leaving ends nothing."""
    gateway = gateway_of(chunk("hi "))
    async with reading(gateway):
        creator = asyncio.create_task(gateway.client.post("/v1/responses", json=ASKED))
        await gateway.log.arrived.wait()
        path = f"/v1/responses/{id_of(gateway)}?stream=true"
        watching = [
            asyncio.create_task(gateway.client.get(f"{path}{after}"))
            for after in ("", "&starting_after=3")
        ]
        await listening(gateway, 3)
        (leaving,) = [wait for wait in gateway.pending if id(wait.task) == id(creator)]
        leaving.mailbox.leave()
        await asyncio.gather(creator, return_exceptions=True)  # Of its answer there is no end.
        assert gateway.ledger.model.attempts == {}
        await tell(gateway, 3, chunk("there"))
        await tell(gateway, 4, DONE)
        one, other = await asyncio.gather(*watching)

    assert events_in(one)[4:] == events_in(other)
    assert data_in(one)[-1]["response"]["output"][0]["content"][0]["text"] == "hi there"
    assert len(gateway.pending) == 0


async def test_one_that_waits_is_told_without_what_it_repeats() -> None:
    """As it is polled; that comes with its frames."""
    gateway = gateway_of()
    gateway.log.worker = lambda _: ()
    async with reading(gateway):
        creator = asyncio.create_task(gateway.client.post("/v1/responses", json=ASKED))
        await gateway.log.arrived.wait()
        path = f"/v1/responses/{id_of(gateway)}?stream=true"
        other = asyncio.create_task(gateway.client.get(path))
        await listening(gateway, 2)
        await tell(gateway, 1, Started("b", (), gateway.log.accepted[0].shown))
        await tell(gateway, 2, chunk("hi"))
        await tell(gateway, 3, DONE)
        first, told = data_in(await creator), data_in(await other)

    assert told[2:] == first[2:]
    assert [each["response"]["metadata"] for each in told[:3]] == [{}, {}, {"a": "b"}]


@pytest.mark.parametrize(
    ("error_code", "status", "end"),
    [
        ("upstream_interrupted", "failed", ["response.failed", "error"]),
        ("request_cancelled", "cancelled", ["response.failed"]),
        ("deadline_exceeded", "failed", ["response.failed", "error"]),
    ],
)
async def test_one_that_ends_without_an_answer_says_so_to_all(
    error_code: str, status: str, end: list[str]
) -> None:
    """To who listens and who polls alike; one that was cancelled has no error, at which SDKs would raise."""
    failed = Terminal(502, error_code=error_code, error_message="why", usage=USAGE)
    gateway = gateway_of(chunk("hi "), failed)
    first = await post(gateway)
    again = await get(gateway, id_of(gateway), stream="true")
    end_in_ledger(gateway, failed)
    polled = (await get(gateway, id_of(gateway))).json()
    told = next(each for each in data_in(first) if each["type"] == "response.failed")["response"]

    assert types_in(first)[-len(end) :] == end == types_in(again)[-len(end) :]
    assert (told["status"], told["error"]) == (status, polled["error"])
    assert polled["status"] == status


async def test_a_process_that_ends_ends_no_response() -> None:
    """Who listens hears where to go on, under the number that it has."""
    gateway = gateway_of(chunk("hi "))
    async with reading(gateway):
        creator = asyncio.create_task(gateway.client.post("/v1/responses", json=ASKED))
        await gateway.log.arrived.wait()
        await listening(gateway, 1)
        await asyncio.sleep(0.01)
        gateway.pending.abandon()
        told = data_in(await creator)
    *_, before, last = told

    assert (last["type"], last["error"]["code"]) == ("error", "service_unavailable")
    assert last["sequence_number"] == before["sequence_number"]
    assert "response.failed" not in {each["type"] for each in told}
    assert gateway.ledger.model.attempts == {}


async def test_frames_that_are_lost_are_no_end_of_the_response() -> None:
    """It may have an answer, which is polled."""
    gateway = gateway_of(chunk("hi "), DONE)
    gateway.log.is_announcing = False
    async with reading(gateway):
        creator = asyncio.create_task(gateway.client.post("/v1/responses", json=ASKED))
        await gateway.log.arrived.wait()
        (frames,) = gateway.bus.streams.values()
        frames[1] = msgspec.structs.replace(frames[1], seq=7)
        told = data_in(await creator)

    assert [each["type"] for each in told] == [*OPENING, "error"]


async def test_it_is_polled_to_the_answer_that_its_outcome_keeps() -> None:
    """The frames have it in pieces only; as a job it is told so as well."""
    gateway = gateway_of(*TOLD)
    await post(gateway)
    end_in_ledger(gateway, DONE)
    polled = (await get(gateway, id_of(gateway))).json()
    job = (await gateway.client.get(f"/v1/jobs/{gateway.log.accepted[0].request_id}")).json()

    assert polled["output"][0]["content"][0]["text"] == "hi there"
    assert job["status"] == "completed"
    assert job["result"]["choices"][0]["message"]["content"] == "hi there"

"""Events of responses that cannot be told: who asks for them hears why."""

from __future__ import annotations

import asyncio
import uuid

import msgspec
import pytest

from ingress.apis.openai.responses.resume import NUMBER_MAX
from ingress.endpoints import response_streams
from schemas.errors import ErrorCode
from schemas.frames import Started, Terminal
from schemas.ids import uuid7
from tests.support.configuration import NOW_MS
from tests.support.followed import (
    ASKED,
    DONE,
    OPENING,
    TOLD,
    chunk,
    data_in,
    end_in_ledger,
    gateway_of,
    get,
    id_of,
    listening,
    post,
    reading,
    tell,
    types_in,
)
from tests.support.gateway import Gateway


async def test_an_answer_that_outlives_its_events_is_told_in_one() -> None:
    """All of them are gone, or only the first: the end comes alone, behind what the client has, and is what a poll tells."""
    gateway = gateway_of(*TOLD)
    await post(gateway)
    end_in_ledger(gateway, DONE)
    (frames,) = gateway.bus.streams.values()
    for left in (frames[2:], []):
        gateway.bus.streams = {frames[0].request_id: left}
        behind = await get(gateway, id_of(gateway), stream="true", starting_after=3)
        whole = await get(gateway, id_of(gateway), stream="true")
        (end,), (all_of_it,) = data_in(behind), data_in(whole)
        assert (end["type"], end["sequence_number"]) == ("response.completed", 4)
        assert all_of_it == {**end, "sequence_number": 0}
        assert "event-stream" in behind.headers["content-type"]
        assert end["response"] == (await get(gateway, id_of(gateway))).json()


async def test_what_neither_the_bus_nor_the_log_has_is_gone() -> None:
    """410: all of its events, or their beginning, and its answer."""
    gateway = gateway_of(*TOLD)
    await post(gateway)
    end_in_ledger(gateway, DONE, is_kept=False)
    (frames,) = gateway.bus.streams.values()
    for left in (frames[2:], []):
        gateway.bus.streams = {frames[0].request_id: left}
        answer = await get(gateway, id_of(gateway), stream="true", starting_after=1)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (410, "result_expired")


async def test_one_that_never_ran_is_told_without_frames() -> None:
    """From its outcome: it has no events that could be missing."""
    gateway = gateway_of()
    refused = Terminal(402, error_code="BUDGET_EXCEEDED", error_message="spent")
    gateway.log.worker = lambda _: (refused,)
    first = await post(gateway)
    end_in_ledger(gateway, refused)
    gateway.bus.streams.clear()
    again = await get(gateway, id_of(gateway), stream="true")

    assert types_in(first) == [*OPENING, "response.failed", "error"]
    assert data_in(again) == data_in(first)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("starting_after=1", "starting_after"),
        ("starting_after=1&stream=false", "starting_after"),
        ("stream=yes", "stream"),
        *(
            (f"stream=true&starting_after={given}", "starting_after")
            for given in (
                "",
                "-1",
                "+1",
                "1.0",
                "1e3",
                "%20%31",
                "%EF%BC%91",
                "%FF",
                "x",
                "9" * 400,
            )
        ),
        (f"stream=true&starting_after={NUMBER_MAX + 1}", "starting_after"),
    ],
)
async def test_what_is_no_number_of_an_event_is_refused(query: str, param: str) -> None:
    """400 that names the parameter, whether or not there is such a response."""
    gateway = gateway_of(*TOLD)
    await post(gateway)
    answer = await gateway.client.get(f"/v1/responses/{id_of(gateway)}?{query}")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_strangers_response_looks_like_none() -> None:
    """As a guess does."""
    gateway = gateway_of(*TOLD)
    await post(gateway)
    guess = f"resp_{uuid7(NOW_MS, b'7' * 10).replace('-', '')}"
    listed = gateway.ledger.model.jobs.listed
    listed["other"] = listed.pop("acme")
    theirs = await get(gateway, id_of(gateway), stream="true", starting_after=1)
    nobodys = await get(gateway, guess, stream="true", starting_after=1)

    assert (theirs.status_code, nobodys.status_code) == (404, 404)
    assert theirs.json() == nobodys.json()


async def test_an_event_of_another_response_is_refused() -> None:
    """400 that names the header."""
    gateway = gateway_of(*TOLD)
    await post(gateway)
    header = {"last-event-id": f"{uuid.UUID(int=7)}/1-2-0"}
    answer = await get(gateway, id_of(gateway), header, stream="true")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Last-Event-ID")


async def test_so_many_may_listen_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """429, come again; those who listen hear all of it, and nobody's place stays taken."""
    monkeypatch.setattr(response_streams, "STREAMS_MAX", 2)
    gateway = gateway_of(chunk("hi"))
    async with reading(gateway):
        creator = asyncio.create_task(gateway.client.post("/v1/responses", json=ASKED))
        await gateway.log.arrived.wait()
        path = f"/v1/responses/{id_of(gateway)}?stream=true"
        other = asyncio.create_task(gateway.client.get(path))
        await listening(gateway, 2)
        refused = await gateway.client.get(path)
        await tell(gateway, 3, DONE)
        first, second = await asyncio.gather(creator, other)

    assert (refused.status_code, refused.json()["code"]) == (429, ErrorCode.RATE_LIMIT_EXCEEDED)
    assert types_in(first)[-1] == types_in(second)[-1] == "response.completed"
    assert (gateway.gatekeeper.shares.requests, len(gateway.pending)) == (0, 0)


async def test_who_listens_holds_a_place_of_its_organization() -> None:
    """Which has so many."""
    gateway = Gateway(org_inflight_max=1)
    gateway.log.worker = lambda accepted: (Started("b", (), accepted.shown),)
    async with reading(gateway):
        creator = asyncio.create_task(gateway.client.post("/v1/responses", json=ASKED))
        await gateway.log.arrived.wait()
        refused = await gateway.client.get(f"/v1/responses/{id_of(gateway)}?stream=true")
        await tell(gateway, 2, DONE)
        await creator

    assert refused.status_code == 429


async def test_while_bus_or_ledger_is_away_nobody_is_told_that_there_is_none() -> None:
    """503, come again."""
    gateway = gateway_of(*TOLD)
    await post(gateway)
    gateway.ledger.is_away = True

    assert (await get(gateway, id_of(gateway), stream="true")).status_code == 503


async def test_a_key_that_may_have_no_jobs_may_have_none_that_is_followed() -> None:
    """403, and nothing is produced: nobody could poll or cancel it."""
    gateway = gateway_of(*TOLD)
    keys = dict(gateway.config.snapshot.keys)
    keys["key_a"] = msgspec.structs.replace(keys["key_a"], scopes=("inference",))
    object.__setattr__(gateway.config.snapshot, "keys", keys)
    answer = await gateway.client.post("/v1/responses", json=ASKED)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "key_not_allowed")
    assert gateway.log.records == []


async def test_a_head_is_not_waited_for_until_a_stream_ends() -> None:
    """It has no body to follow: it is that of the poll."""
    gateway = gateway_of(chunk("hi"))
    async with reading(gateway):
        creator = asyncio.create_task(gateway.client.post("/v1/responses", json=ASKED))
        await gateway.log.arrived.wait()
        answer = await gateway.client.head(f"/v1/responses/{id_of(gateway)}?stream=true")
        await tell(gateway, 3, DONE)
        await creator

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


async def test_who_comes_again_and_again_is_held_to_its_rate() -> None:
    """Each time all events are made anew: 429, as for requests that are sent so fast."""
    gateway = Gateway(rate_limit_default_rps=1, rate_limit_burst_size=1)
    gateway.log.worker = lambda accepted: (Started("b", (), accepted.shown), *TOLD)
    await post(gateway)
    answers = [await get(gateway, id_of(gateway), stream="true") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert gateway.gatekeeper.shares.requests == 0

"""The openai package's background streams run unmodified: left, gone on with, watched by several, cancelled."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(60, func_only=True)


@pytest.fixture(scope="module")
def sdk(stack: RunningStack, make_key: MakeKey) -> Iterator[openai.OpenAI]:
    grant = make_key("followed-org")
    with _client(stack, grant.key) as client:
        yield client


def _client(stack: RunningStack, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=stack.api_url, api_key=key, max_retries=0, timeout=30)


def _asked(**steering: Any) -> Any:
    return {"model": MODEL, "input": steer(**steering), "background": True}


def _request(response_id: str) -> str:
    return str(uuid.UUID(response_id.removeprefix("resp_")))


def _watch(sdk: openai.OpenAI, response_id: str, **more: Any) -> list[Any]:
    return list(sdk.responses.retrieve(response_id, stream=True, **more))


def _left_after(sdk: openai.OpenAI, number: int, **asked: Any) -> list[Any]:
    """The first events of a stream whose client then leaves."""
    events = []
    with sdk.responses.create(**asked, stream=True) as stream:
        for event in stream:
            events.append(event)
            if event.sequence_number == number:
                break
    return events


def _ended(sdk: openai.OpenAI, response_id: str) -> Any:
    until_s = time.monotonic() + 20
    while (response := sdk.responses.retrieve(response_id)).status in ("queued", "in_progress"):
        assert time.monotonic() < until_s, response
        time.sleep(0.1)
    return response


def test_it_runs_on_when_its_client_leaves_and_is_gone_on_with(
    sdk: openai.OpenAI, oracle: Oracle
) -> None:
    """Live, and once more when it has ended; the pieces are the whole, and the backend was called once."""
    first = _left_after(sdk, 6, **_asked(chunks=10, delay_ms=100, output_tokens=20))
    response_id = first[0].response.id
    live = _watch(sdk, response_id, starting_after=6)
    whole = _watch(sdk, response_id)
    polled = sdk.responses.retrieve(response_id)

    assert [each.type for each in first[:3]] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    assert [*first, *live] == whole
    assert [each.sequence_number for each in whole] == list(range(len(whole)))
    assert polled == whole[-1].response
    assert polled.status == "completed"
    (call,) = oracle.calls_of([_request(response_id)])
    assert len(polled.output_text.split()) == call.completion_tokens == 20


def test_the_packages_helper_goes_on_with_it(sdk: openai.OpenAI) -> None:
    """It asks for all events, and gives those behind the number."""
    asked = _asked(chunks=5, delay_ms=50, output_tokens=10)
    seen: list[Any] = []
    with sdk.responses.stream(**asked) as stream:
        for event in stream:
            seen.append(event)
            if event.sequence_number == 5:
                break
    response_id = seen[0].response.id
    with sdk.responses.stream(response_id=response_id, starting_after=5) as again:
        rest = list(again)
        final = again.get_final_response()

    assert [each.sequence_number for each in rest][:2] == [6, 7]
    assert len(final.output_text.split()) == 10
    assert final.id == response_id


def test_several_who_watch_hear_all_of_it(sdk: openai.OpenAI, oracle: Oracle) -> None:
    """At once."""
    (created, *_) = _left_after(sdk, 1, **_asked(chunks=8, delay_ms=60, output_tokens=16))
    response_id = created.response.id
    with ThreadPoolExecutor(4) as pool:
        watched = list(pool.map(lambda _: _watch(sdk, response_id), range(4)))

    assert watched[0][-1].type == "response.completed"
    assert all(each[2:] == watched[0][2:] for each in watched)
    assert len(oracle.calls_of([_request(response_id)])) == 1


def test_a_cancelled_one_ends_for_all_who_watch(sdk: openai.OpenAI) -> None:
    """With the response as it is polled, and no error that would be raised."""
    asked = _asked(chunks=50, delay_ms=200, output_tokens=100)
    first = _left_after(sdk, 5, **asked)
    response_id = first[0].response.id
    with ThreadPoolExecutor(2) as pool:
        watched = [pool.submit(_watch, sdk, response_id) for _ in range(2)]
        time.sleep(0.3)
        sdk.responses.cancel(response_id)
        ends = [each.result()[-1] for each in watched]

    assert {each.type for each in ends} == {"response.failed"}
    assert {each.response.status for each in ends} == {"cancelled"}
    assert _ended(sdk, response_id).status == "cancelled"


def test_one_whose_backend_dies_fails_for_all(sdk: openai.OpenAI) -> None:
    """For who watches and who polls alike; the package raises behind the failed response."""
    events: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        events.extend(
            sdk.responses.create(
                **_asked(mode="reset", chunks=6, delay_ms=50, output_tokens=12), stream=True
            )
        )
    *_, last = events
    again: list[Any] = []
    with pytest.raises(openai.APIError):
        again.extend(sdk.responses.retrieve(last.response.id, stream=True))
    polled = _ended(sdk, last.response.id)

    assert caught.value.code == "upstream_interrupted"
    assert again == events
    assert (polled.status, polled.error) == (last.response.status, last.response.error)


def test_what_cannot_be_streamed_is_refused(
    sdk: openai.OpenAI, stack: RunningStack, make_key: MakeKey
) -> None:
    """By name: one that was not begun so, and a number that is none. A stranger's looks like a guess."""
    polled = sdk.responses.create(**_asked(output_tokens=2))
    streamed = _left_after(sdk, 1, **_asked(output_tokens=2))[0].response
    for response, after, param in (
        (polled, 0, "stream"),
        (streamed, -1, "starting_after"),
        (streamed, 10**30, "starting_after"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.responses.retrieve(response.id, stream=True, starting_after=after)
        assert caught.value.param == param
    with pytest.raises(openai.BadRequestError, match="stream=true as well"):
        sdk.responses.retrieve(streamed.id, starting_after=1)
    stranger: Grant = make_key("followed-stranger")
    with _client(stack, stranger.key) as other, pytest.raises(openai.NotFoundError):
        other.responses.retrieve(streamed.id, stream=True, starting_after=1)

"""Reading what backends answer to an embeddings call, and counting where they did not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from dispatcher.operations.embeddings import count_input, read_body
from dispatcher.upstream.backend_words import BackendError
from dispatcher.upstream.event_splitter import UpstreamGarbage
from schemas.pricing.counts import TokenCounts
from tests.support.attempt_scene import FakeBus, attempt_run
from tests.support.events import accepted
from tests.support.scripted_backend import backend, choice_of, upstreams

_DATA = [{"object": "embedding", "index": 0, "embedding": "AACAPw=="}]


def _body(**more: Any) -> bytes:
    return json.dumps({"object": "list", "data": _DATA, **more}).encode()


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 5, "total_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14},
    ],
    ids=["as it is", "with an output that cannot be"],
)
def test_the_backends_count_of_its_input_is_used(usage: dict[str, int]) -> None:
    """No output was made, whatever it says; the body is relayed byte for byte."""
    answer, relayed = read_body(_body(usage=usage))

    assert answer.usage == TokenCounts(5, 0)
    assert relayed == _body(usage=usage)


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": -1, "completion_tokens": -1}, 7, {}])
def test_usage_that_cannot_be_is_none(usage: object) -> None:
    """So that the input is counted here."""
    assert read_body(_body(usage=usage))[0].usage is None


@pytest.mark.parametrize("body", [b"", b"[]", b"data: {}"])
def test_an_answer_that_is_none_is_garbage(body: bytes) -> None:
    """Nothing of it can be relayed."""
    with pytest.raises(UpstreamGarbage):
        read_body(body)


def test_an_error_with_status_200_is_told() -> None:
    """In the backend's words."""
    with pytest.raises(BackendError) as caught:
        read_body(_body(error={"message": "no", "code": "busy"}))

    assert (caught.value.words.message, caught.value.words.code) == ("no", "busy")


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        ("hello world", 2),
        (["hello world", "hello"], 3),
        ([11, 12, 13], 3),
        ([[11, 12], [13]], 3),
    ],
    ids=["a text", "texts", "tokens", "lists of tokens"],
)
def test_all_inputs_are_counted(given: Any, tokens: int) -> None:
    """Texts exactly, tokens by their number."""
    assert count_input(json.dumps({"model": "m", "input": given}).encode()) == tokens


async def test_an_answer_without_counts_is_estimated_and_says_so() -> None:
    """It was asked for where embeddings are, and costs its input only."""
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(body=_body())

    request = accepted(route="embeddings", payload=b'{"model": "echo", "input": "hello world"}')
    async with backend(answer) as url, upstreams() as client:
        result = await attempt_run(client, choice_of(url), request, FakeBus()).run()

    assert seen == ["/v1/embeddings"]
    attempt = result.attempt
    assert (attempt.input_tokens, attempt.output_tokens, attempt.estimated) == (2, 0, True)
    assert (result.ending.status, result.ending.body) == ("completed", _body())

"""Counting the tokens of a message request: an estimate, which nobody pays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec
import pytest

from ingress.apis.anthropic.counting import input_tokens, read_counting
from ingress.apis.exact_bound import Texts
from ingress.auth.caller import Caller
from ingress.http.paths import COUNT_TOKENS
from ingress.http.refusals import Refusal
from ingress.requests.exact_counts import BYTES_MAX
from schemas.tokenizers import count
from tests.support.configuration import snapshot
from tests.support.gateway import Gateway

CALLER: Final = Caller("k", "acme", None, None, None)
BODY: Final[dict[str, Any]] = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "string"}}}


def _o200k(*texts: str) -> int:
    return sum(count("o200k_base", text) for text in texts)


async def _counted(gateway: Gateway, **more: Any) -> int:
    answer = await gateway.client.post(COUNT_TOKENS, json={**BODY, **more})
    assert answer.status_code == 200, answer.text
    tokens: int = answer.json()["input_tokens"]
    assert answer.json() == {"input_tokens": tokens}
    return tokens


async def test_all_that_a_model_is_told_is_counted_and_nothing_reaches_the_log() -> None:
    """Texts, the system prompt, calls with their arguments, results, and tools."""
    gateway, least = Gateway(), _o200k("hello") + 4
    use = {"type": "tool_use", "id": "t", "name": "look", "input": {"a": "b"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "found"}
    turns = [
        *BODY["messages"],
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    tool = {"name": "look", "input_schema": SCHEMA}

    assert await _counted(gateway) == least
    assert await _counted(gateway, system="be brief") == least + _o200k("be brief") + 4
    told = _o200k("look", '{"a":"b"}', "found")
    assert await _counted(gateway, messages=turns) == least + told + 8
    assert await _counted(gateway, tools=[tool]) > least + _o200k(
        msgspec.json.encode(SCHEMA).decode()
    )
    assert gateway.log.records == []


@pytest.mark.parametrize(
    ("more", "status", "kind"),
    [
        ({"model": "nope"}, 404, "not_found_error"),
        ({"messages": 7}, 400, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x"}}]}]}, 400, "invalid_request_error"),
    ],
)  # fmt: skip
async def test_it_is_refused_as_a_message_would_be(
    more: dict[str, Any], status: int, kind: str
) -> None:
    """In Anthropic's form, under an id."""
    answer = await Gateway().client.post(COUNT_TOKENS, json={**BODY, **more})

    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
    assert answer.json()["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [(b"{", {}, 400), (b"\xff", {}, 400), (b"{}", {"content-type": "text/plain"}, 415), (b"{}", {"x-api-key": "x"}, 401)],
)  # fmt: skip
async def test_what_is_no_request_is_refused(
    content: bytes, headers: dict[str, str], status: int
) -> None:
    """Before anything is counted."""
    said = {"content-type": "application/json", **headers}
    answer = await Gateway().client.post(COUNT_TOKENS, content=content, headers=said)

    assert answer.status_code == status
    assert answer.json()["type"] == "error"


async def test_it_is_held_to_the_rate_of_its_key() -> None:
    """As messages are: 429 with when to come back."""
    gateway = Gateway(rate_limit_default_rps=1, rate_limit_burst_size=1)

    answers = [await gateway.client.post(COUNT_TOKENS, json=BODY) for _ in range(9)]

    assert (answers[0].status_code, answers[-1].status_code) == (200, 429)
    assert answers[-1].json()["error"]["type"] == "rate_limit_error"
    assert "retry-after-ms" in answers[-1].headers


def test_a_model_counts_by_its_own_tokenizer_and_its_media() -> None:
    """What it states for a picture, whatever its size."""
    config = snapshot()
    model = msgspec.structs.replace(
        config.models["echo"], tokenizer="cl100k_base", image_tokens=1_000
    )
    picture = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}
    turn = {"role": "user", "content": [{"type": "text", "text": "hello"}, picture]}

    texts = read_counting(
        {**BODY, "messages": [turn]}, replace(config, models={"echo": model}), CALLER
    )

    assert isinstance(texts, Texts)
    assert (texts.tokenizer, texts.plain, texts.rest_tokens) == ("cl100k_base", ("hello",), 1_004)


async def test_more_than_can_be_counted_is_a_quarter_of_its_bytes() -> None:
    """Half a megabyte is the most."""
    text = "é" * (BYTES_MAX // 2 + 1)

    assert await _counted(Gateway(), messages=[{"role": "user", "content": text}]) == 4 + -(
        -(BYTES_MAX + 2) // 4
    )


def test_a_limit_of_the_output_is_not_asked_for() -> None:
    """But what is there has to be right."""
    assert isinstance(read_counting(BODY, snapshot(), CALLER), Texts)
    assert isinstance(read_counting({**BODY, "top_k": "x"}, snapshot(), CALLER), Refusal)
    assert input_tokens(Texts("o200k_base", (), (), 9, 2), None) == 5

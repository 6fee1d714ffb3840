"""The fake backend does what tests ask of it, and its log tells the truth."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import openai
import pytest

from tests.support.fakes.call_log import Call, End, Start, most_at_once, read_calls, totals
from tests.support.fakes.running_backend import RunningBackend, StartBackend

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def backend(start_backend: StartBackend) -> RunningBackend:
    return start_backend("fake-a")


@pytest.fixture
def sdk(backend: RunningBackend) -> openai.OpenAI:
    return openai.OpenAI(base_url=backend.url, api_key="any", max_retries=0)


def _ask(content: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps({"fake": content})
    return {"model": "fake-1", "messages": [{"role": "user", "content": text}], **more}


def test_log_agrees_with_the_usage_that_was_reported(
    backend: RunningBackend, sdk: openai.OpenAI
) -> None:
    """Tokens, text and request id of a JSON call stand in the log."""
    asked = _ask("one two three")
    answer = sdk.chat.completions.create(**asked, extra_headers={"x-request-id": "r-1"})

    (call,) = backend.calls()
    assert answer.usage is not None
    assert (call.prompt_tokens, call.completion_tokens) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    text = answer.choices[0].message.content or ""
    assert len(text.split()) == call.completion_tokens
    assert call.end is not None
    assert call.end.text_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert call.start.request_id == "r-1"


def test_answers_never_exceed_max_tokens(backend: RunningBackend, sdk: openai.OpenAI) -> None:
    """An answer is cut at `max_tokens`, unless the backend is told to ignore it."""
    cut = sdk.chat.completions.create(**_ask({"output_tokens": 9}, max_tokens=4))
    over = sdk.chat.completions.create(**_ask({"mode": "ignore_max_tokens"}, max_tokens=4))

    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 4
    assert over.usage is not None
    assert over.usage.completion_tokens > 4
    assert [call.completion_tokens for call in backend.calls()] == [4, over.usage.completion_tokens]


@pytest.mark.parametrize("include_usage", [True, False])
def test_stream_carries_usage_only_when_asked(
    backend: RunningBackend, sdk: openai.OpenAI, include_usage: bool
) -> None:
    """The usage chunk comes last and only with `include_usage`; the log has it always."""
    options: Any = {"include_usage": include_usage}
    asked = _ask({"chunks": 5, "output_tokens": 7})
    chunks = list(sdk.chat.completions.create(**asked, stream=True, stream_options=options))

    assert [chunk.usage is not None for chunk in chunks] == [False] * 6 + [True] * include_usage
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:5])
    (call,) = backend.calls()
    assert call.completion_tokens == len(text.split()) == 7


@pytest.mark.parametrize("status", [500, 429])
def test_errors_spend_nothing(backend: RunningBackend, status: int) -> None:
    """An error answer is logged with its status and no tokens."""
    body = _ask({"mode": str(status)})
    answer = httpx.post(f"{backend.url}/chat/completions", json=body)

    assert answer.status_code == status
    (call,) = backend.calls()
    assert call.end is not None
    assert call.end.status == status
    assert totals([call]).prompt_tokens == 0


@pytest.mark.parametrize("stream", [True, False])
def test_reset_breaks_the_connection(backend: RunningBackend, stream: bool) -> None:
    """The client sees a broken connection; tokens made before it are logged."""
    body = _ask({"mode": "reset", "chunks": 4}, stream=stream)
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{backend.url}/chat/completions", json=body)

    (call,) = backend.calls()
    assert call.completion_tokens == (2 if stream else 0)


def test_hang_ends_when_the_client_leaves(backend: RunningBackend) -> None:
    """A hanging call is logged as closed by its client."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{backend.url}/chat/completions", json=_ask({"mode": "hang"}), timeout=0.2)
    # A second round trip on the same loop comes after the first one's cancellation.
    httpx.get(f"{backend.url}/models")

    (call,) = backend.calls()
    assert call.end is not None
    assert call.end.client_closed


def test_usage_can_be_missing_or_wrong(backend: RunningBackend) -> None:
    """These modes hide from the caller what the log still knows."""
    url = f"{backend.url}/chat/completions"
    silent = httpx.post(url, json=_ask("hello", model="fake-no_usage")).json()
    lying = httpx.post(url, json=_ask({"mode": "bad_usage"})).json()

    assert "usage" not in silent
    garbled = httpx.post(url, json=_ask({"mode": "garbled_usage"})).json()
    assert lying["usage"]["completion_tokens"] == -1
    assert garbled["usage"]["prompt_tokens"] == "many"
    assert all(call.completion_tokens > 0 for call in backend.calls())


def test_misspelt_steering_is_refused(backend: RunningBackend) -> None:
    """A test that asks for an unknown mode is told so."""
    answer = httpx.post(f"{backend.url}/chat/completions", json=_ask({"mode": "sulk"}))

    assert answer.status_code == 400


def test_overlap_counts_calls_that_run_together() -> None:
    """Touching calls do not overlap; an unfinished one overlaps all later ones."""

    def call(name: str, start_ms: int, end_ms: int | None) -> Call:
        start = Start(name, start_ms, None, "m", stream=False, has_gateway_key=False)
        if end_ms is None:
            return Call(start, None)
        return Call(start, End(name, end_ms, 200, 1, 1, "", client_closed=False))

    assert most_at_once([call("a", 0, 10), call("b", 10, 20)]) == 1
    assert most_at_once([call("a", 0, None), call("b", 10, 20), call("c", 15, 30)]) == 3


def test_a_torn_last_line_is_ignored(backend: RunningBackend, sdk: openai.OpenAI) -> None:
    """Half a line, as a kill leaves it, does not hide the lines before it."""
    sdk.chat.completions.create(**_ask("hello"))
    with backend.log.open("ab") as log:
        log.write(b'{"event":"sta')

    assert totals(read_calls(backend.log)).calls == 1

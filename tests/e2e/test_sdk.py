"""The openai package runs unmodified against the gateway."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(60, func_only=True)


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("sdk-org")


@pytest.fixture
def sdk(stack: RunningStack, grant: Grant) -> openai.OpenAI:
    return openai.OpenAI(base_url=stack.api_url, api_key=grant.key, max_retries=0, timeout=30)


def _ask(content: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}


def test_completion_carries_the_backends_text_and_usage(sdk: openai.OpenAI, oracle: Oracle) -> None:
    """A plain completion parses, and its usage is the backend's own count."""
    raw = sdk.chat.completions.with_raw_response.create(**_ask("the quick brown fox"))
    answer = raw.parse()

    (call,) = oracle.calls_of([raw.headers["x-request-id"]])
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == call.prompt_tokens
    assert answer.usage.completion_tokens == call.completion_tokens
    assert len((answer.choices[0].message.content or "").split()) == call.completion_tokens


def test_gateway_key_does_not_reach_the_backend(oracle: Oracle, sdk: openai.OpenAI) -> None:
    """The client's secret ends at the gateway."""
    sdk.chat.completions.create(**_ask("no secrets here"))

    assert not any(call.start.has_gateway_key for call in oracle.calls())


def test_stream_without_include_usage_has_no_usage_chunk(sdk: openai.OpenAI) -> None:
    """The usage the gateway asks for itself is not shown to a client that did not."""
    asked = _ask(steer(chunks=6, output_tokens=12))
    chunks = list(sdk.chat.completions.create(**asked, stream=True))

    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert len(text.split()) == 12


def test_stream_with_include_usage_ends_with_the_totals(sdk: openai.OpenAI) -> None:
    """The last chunk has no choices and the backend's totals."""
    options: Any = {"include_usage": True}
    asked = _ask(steer(chunks=6, output_tokens=12))
    chunks = list(sdk.chat.completions.create(**asked, stream=True, stream_options=options))

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_models_are_listed(sdk: openai.OpenAI) -> None:
    """The configured model is in the list and can be looked up."""
    assert MODEL in {model.id for model in sdk.models.list()}
    assert sdk.models.retrieve(MODEL).id == MODEL


def test_unknown_model_is_not_found(sdk: openai.OpenAI) -> None:
    """An unknown model maps to NotFoundError with its code."""
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(**{**_ask("hello"), "model": "no-such-model"})

    assert caught.value.code == "model_not_found"
    assert caught.value.request_id


def test_wrong_key_is_an_authentication_error(stack: RunningStack) -> None:
    """A key that is none maps to AuthenticationError."""
    stranger = openai.OpenAI(base_url=stack.api_url, api_key="tg_live_nobody", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        stranger.chat.completions.create(**_ask("hello"))

    assert caught.value.code == "invalid_api_key"


def test_invalid_body_names_the_parameter(sdk: openai.OpenAI) -> None:
    """A bad field maps to BadRequestError and is named."""
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(**_ask("hello", max_tokens=-1))

    assert caught.value.param == "max_tokens"

"""Message requests of models whose backends all speak Anthropic's protocol: what goes into the log, and what bounds it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

import pytest

from ingress.apis.anthropic.counting import input_tokens, read_counting
from ingress.apis.anthropic.message_fields import MESSAGE_FIELDS
from ingress.apis.anthropic.messages import parse
from ingress.apis.parsed_request import Fields, ParsedRequest
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from ingress.http.request import Preference, betas_of
from ingress.requests.validation import (  # fmt: skip
    Circumstances,
    ValidatedRequest,
    read_circumstances,
    validate,
)
from schemas.config_state import Snapshot, prices_of
from schemas.entities import Backend, Budget, Limits, Model, Organization, Target
from schemas.operations import MESSAGES
from schemas.pricing.entries import Price
from tests.support.configuration import snapshot

CALLER: Final = Caller("k", "acme", None, None, None)
LEAST: Final[Fields] = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}  # fmt: skip
_PRICE: Final = Price(input_usd_per_mtok="1", output_usd_per_mtok="1")
_PNG: Final = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 400}}  # fmt: skip


def _config(*protocols: str, is_budgeted: bool = False, **more: Any) -> Snapshot:
    """The model ``claude`` with a backend of each protocol."""
    config = snapshot()
    backends = {f"b{n}": Backend(url="http://b", protocol=each) for n, each in enumerate(protocols)}  # type: ignore[arg-type]
    model = Model(backends=tuple(Target(backend=name) for name in backends), **more)
    orgs = dict(config.organizations)
    if is_budgeted:
        orgs["acme"] = Organization(limits=Limits(budgets=(Budget("1", "day"),)))
    return dataclasses.replace(
        config,
        models={**config.models, "claude": model},
        prices={"claude": prices_of("claude", model, 1)},
        backends=backends,
        organizations=orgs,
    )


def _parsed(config: Snapshot | None = None, **fields: Any) -> ParsedRequest | Refusal:
    return parse({**LEAST, **fields}, config or _config("anthropic"), CALLER)


def _logged(parsed: ParsedRequest | Refusal) -> dict[str, Any]:
    assert isinstance(parsed, ParsedRequest), parsed
    body: dict[str, Any] = json.loads(parsed.call.payload)
    return body


def test_a_body_goes_into_the_log_as_it_came() -> None:
    """With its mark; thoughts, marks of caches and what nobody knows are all there."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    asked: Fields = {
        "system": [{"type": "text", "text": "s", "cache_control": mark}],
        "thinking": {"type": "adaptive", "display": "omitted"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "new", "x": 1}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "h", "signature": "s"}]},
        ],
        "new_field": {"a": [1.5, None]},
        "temperature": 0.3,
        "stream": True,
    }  # fmt: skip
    parsed = _parsed(**asked)

    assert _logged(parsed) == {**LEAST, **asked, "anthropic_version": "2023-06-01"}
    assert isinstance(parsed, ParsedRequest)
    assert parsed.call.stream


@pytest.mark.parametrize("protocols", [("openai",), ("anthropic", "openai"), ()])
def test_a_model_with_another_backend_is_asked_in_the_form_that_all_have(
    protocols: tuple[str, ...],
) -> None:
    """The chat completion, from which every backend is asked; so any of them may take over."""
    config = _config(*protocols) if protocols else dataclasses.replace(_config("openai"), backends={})  # fmt: skip

    assert "anthropic_version" not in _logged(_parsed(config, thinking={"type": "disabled"}))


def test_bounds_are_bytes_and_what_the_model_states_for_media() -> None:
    """Also of pictures in results of tools, and of files; the bytes that carry them count as nothing."""
    config = _config("anthropic", image_tokens=1_000, file_tokens=5_000)
    plain = _parsed(config)
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "B" * 800}}  # fmt: skip
    result = {"type": "tool_result", "tool_use_id": "t", "content": [_PNG]}
    made_of = {"type": "document", "source": {"type": "content", "content": [_PNG]}}
    kept = {"type": "image", "source": {"type": "file", "file_id": "f"}}
    with_media = _parsed(config, messages=[{"role": "user", "content": [_PNG, pdf, result, made_of, kept]}])  # fmt: skip

    assert isinstance(plain, ParsedRequest)
    assert isinstance(with_media, ParsedRequest)
    body, call = len(with_media.call.payload), with_media.call
    assert call.input_tokens_bound == body - 3 * 400 - 800 + 4 * 1_000 + 5_000 + 16 + 64
    assert plain.call.input_tokens_bound == len(plain.call.payload) + 16 + 64
    assert plain.call.output_tokens_bound == 9
    assert call.reach is not None
    assert call.reach.image_input_tokens_bound == 4_000


def test_media_that_the_model_does_not_bound_are_refused_where_they_stand() -> None:
    """However deep."""
    result = {"type": "tool_result", "tool_use_id": "t", "content": [_PNG]}
    refused = _parsed(messages=[{"role": "user", "content": [result]}])

    assert isinstance(refused, Refusal)
    assert refused.param == "messages[0].content[0].content[0].type"


def test_text_that_calls_itself_a_picture_counts_as_text_where_it_is_text() -> None:
    """A document of text is its bytes."""
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x" * 500}}  # fmt: skip
    parsed = _parsed(messages=[{"role": "user", "content": [text]}])

    assert isinstance(parsed, ParsedRequest)
    assert parsed.call.input_tokens_bound > 500


def test_the_limit_of_the_output_is_the_models_at_most() -> None:
    """A budget of thoughts above it bounds a turn, so it is held as well."""
    capped = _parsed(_config("anthropic", max_output_tokens=5))
    thinking = {"type": "enabled", "budget_tokens": 2_000}
    beyond, within = _parsed(thinking=thinking), _parsed(thinking=thinking, max_tokens=3_000)

    assert _logged(capped)["max_tokens"] == 5
    assert isinstance(beyond, ParsedRequest)
    assert isinstance(within, ParsedRequest)
    assert beyond.call.output_tokens_bound == 2_009
    assert within.call.output_tokens_bound == 3_000


def test_tools_bring_what_the_backend_says_of_them_to_its_model() -> None:
    """Once, and for each that it defines; those that clients run cost no calls, so no budget refuses them."""
    own = {"name": "f", "input_schema": {"type": "object"}}
    bash = {"type": "bash_20250124", "name": "bash"}
    config = _config("anthropic", is_budgeted=True, prices=(_PRICE,))
    parsed = _parsed(config, tools=[own, bash])

    assert isinstance(parsed, ParsedRequest), parsed
    assert parsed.call.input_tokens_bound == len(parsed.call.payload) + 3 * 16 + 64 + 2 * 1_024


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"speed": "fast"}, "speed"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"fallbacks": [{"model": "x"}]}, "fallbacks"),
        ({"unknown": 1}, "unknown"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management"),
        ({"context_management": {"edits": "x"}}, "context_management"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "container_upload"}]}]}, "messages[0].content[0].type"),
    ],
    ids=str,
)  # fmt: skip
def test_what_nothing_bounds_is_refused_under_a_budget_and_passed_without_one(
    fields: dict[str, Any], param: str
) -> None:
    """By its name."""
    refused = _parsed(_config("anthropic", is_budgeted=True, prices=(_PRICE,)), **fields)

    assert isinstance(refused, Refusal), refused
    assert refused.param == param
    assert isinstance(_parsed(**fields), ParsedRequest)


def test_what_is_cleared_of_a_context_costs_nothing() -> None:
    """So agents may ask for it under a budget."""
    edits = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    config = _config("anthropic", is_budgeted=True, prices=(_PRICE,))

    assert isinstance(_parsed(config, context_management=edits), ParsedRequest)


def test_writes_to_a_cache_are_held_at_their_price() -> None:
    """Those for an hour at theirs."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    parsed = _parsed(system=[{"type": "text", "text": "s", "cache_control": mark}])

    assert isinstance(parsed, ParsedRequest)
    assert parsed.call.reach is not None
    assert (parsed.call.reach.cache_writes, parsed.call.reach.cache_writes_1h) == (True, True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"tools": {}}, "tools"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"stream": 1}, "stream"),
        ({"system": 7}, "system"),
        ({"anthropic_beta": [1]}, "anthropic_beta"),
        ({"thread": {"id": "t"}}, "thread"),
    ],
    ids=str,
)
def test_a_form_that_bounds_count_on_is_demanded(fields: dict[str, Any], param: str) -> None:
    """All else the backend judges."""
    refused = _parsed(**fields)

    assert isinstance(refused, Refusal)
    assert refused.param == param


def test_texts_are_counted_exactly_where_the_model_says_by_what() -> None:
    """And a limit counts on them; without one bytes do."""
    config = _config("anthropic", is_budgeted=True, prices=(_PRICE,), tokenizer="o200k_base")
    result = {"type": "tool_result", "tool_use_id": "t", "content": "done"}
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "counted by its bytes"}}
    said = [{"type": "text", "text": "hello"}, use, result]
    parsed = _parsed(config, system="be brief", messages=[{"role": "user", "content": said}])

    assert isinstance(parsed, ParsedRequest)
    assert parsed.call.texts is not None
    assert parsed.call.texts.plain == ("be brief", "hello", "done")


def test_betas_of_the_header_stand_in_the_log() -> None:
    """Which of them pass the backend says; what can be no name of one is ignored."""
    headers = {
        b"content-type": b"application/json",
        b"anthropic-beta": b"a-1, b-2,,x y," + b"c" * 65,
    }
    said = read_circumstances(headers, 1.0, 1.0)
    assert isinstance(said, Circumstances)
    body = json.dumps(LEAST).encode()
    for config, expected in ((_config("anthropic"), ["a-1", "b-2"]), (_config("openai"), None)):
        checked = validate(MESSAGES, parse, CALLER, said, body, config, 0)
        assert isinstance(checked, ValidatedRequest)
        assert json.loads(checked.parsed.call.payload).get("anthropic_beta") == expected
    plain = Circumstances(1, 1, key=None, preference=Preference(), traceparent=None)
    checked = validate(MESSAGES, parse, CALLER, plain, body, _config("anthropic"), 0)
    assert isinstance(checked, ValidatedRequest)
    assert b"anthropic_beta" not in checked.parsed.call.payload
    assert len(betas_of(b"a," * 10_000)) == 64


def test_counting_takes_what_is_passed() -> None:
    """Blocks that nobody here knows too; there is no limit of an output."""
    asked = {"model": "claude", "messages": [{"role": "user", "content": [{"type": "new", "text": "hello world"}]}]}  # fmt: skip
    texts = read_counting(asked, _config("anthropic"), CALLER)

    assert not isinstance(texts, Refusal)
    assert input_tokens(texts, 2) == 2
    assert texts.plain == ("hello world",)


def test_every_field_says_what_it_does_to_the_bill() -> None:
    """What the table refuses for good is refused in both forms."""
    assert {row.name for row in MESSAGE_FIELDS if row.passed == "refused"} == {"thread"}
    assert all(row.fate == "refused" for row in MESSAGE_FIELDS if row.passed == "refused")

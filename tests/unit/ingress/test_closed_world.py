"""The closed world of request fields: what may change a bill is priced, or refused by its name (issue 11, Build 4)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from ingress.apis.native import inference, jobs
from ingress.apis.openai import chat, embeddings
from ingress.apis.openai.request_fields import CHAT
from ingress.apis.parsed_request import ParsedRequest, RequestParser
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot, prices_of
from schemas.entities import Budget, Key, Limits, Model, Organization, Quota, Target
from schemas.events import Reach
from schemas.pricing.entries import Price, TierPrice

CALLER: Final = Caller("key_a", "acme", None, None, None)
BUDGET: Final = Limits(budgets=(Budget(usd="1", period="day"),))
NONE: Final = Limits()
FLAT: Final = Model(
    backends=(Target(backend="b"),), input_usd_per_mtok="1", output_usd_per_mtok="2"
)
LISTED: Final = Model(
    backends=(Target(backend="b"),),
    prices=(
        Price(
            input_usd_per_mtok="1",
            output_usd_per_mtok="2",
            cache_write_usd_per_mtok="1.25",
            audio_output_usd_per_mtok="20",
            tiers={"priority": TierPrice(multiplier="2"), "flex": TierPrice(multiplier="0.5")},
            tool_call_usd={"web_search": "0.01"},
        ),
    ),
    max_tool_calls=3,
    context_window_tokens=200_000,
)
SAID: Final = {"role": "user", "content": "hello"}
SEARCH: Final = {"type": "web_search_preview"}
FUNCTION: Final = {"type": "function", "function": {"name": "f", "parameters": {}}}


def _snapshot(model: Model, *, org: Limits = BUDGET, key: Limits = NONE) -> Snapshot:
    named = {"m": model}
    return Snapshot(
        offset=1,
        organizations={"acme": Organization(limits=org)},
        keys={"key_a": Key(org="acme", hash="0" * 64, display="", created_at_ms=0, limits=key)},
        models=named,
        prices={name: prices_of(name, each, 1) for name, each in named.items()},
    )


def _parsed(
    model: Model = FLAT,
    *,
    parse: RequestParser = chat.parse,
    org: Limits = BUDGET,
    key: Limits = NONE,
    **fields: Any,
) -> ParsedRequest | Refusal:
    body = {"model": "m", "messages": [SAID], **fields}
    return parse(body, _snapshot(model, org=org, key=key), CALLER)


def _reach(model: Model = LISTED, **fields: Any) -> Reach | None:
    parsed = _parsed(model, **fields)
    assert isinstance(parsed, ParsedRequest), parsed
    return parsed.call.reach


def _param(parsed: ParsedRequest | Refusal) -> str | None:
    assert isinstance(parsed, Refusal), parsed
    assert (parsed.status, parsed.code) == (400, "invalid_request")
    return parsed.param


_COSTLY: Final = [
    ({"a_field_of_tomorrow": 1}, "a_field_of_tomorrow"),
    *(({name: True}, name) for name, row in CHAT.items() if row.effect == "costly"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"service_tier": "fast"}, "service_tier"),
    ({"service_tier": "quantum"}, "service_tier"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"modalities": ["smell"]}, "modalities"),
    ({"modalities": "audio"}, "modalities"),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"tools": [FUNCTION, SEARCH]}, "tools[1].type"),
    ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "tools[0].type"),
    ({"tools": [{"google_search": {}}]}, "tools[0].type"),
    ({"tools": [{"type": 5}]}, "tools[0].type"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
]


@pytest.mark.parametrize(("fields", "param"), _COSTLY)
def test_what_may_change_the_bill_is_refused_by_its_name_where_a_budget_applies(
    fields: dict[str, Any], param: str
) -> None:
    """Whoever of the caller's owners has the budget."""
    assert _param(_parsed(**fields)) == param
    assert _param(_parsed(org=NONE, key=BUDGET, **fields)) == param


@pytest.mark.parametrize(("fields", "param"), _COSTLY)
def test_it_passes_where_no_budget_or_no_price_applies(fields: dict[str, Any], param: str) -> None:
    """Nobody is billed for it here; a model without a price is refused by admission where a budget applies."""
    unpriced = Model(backends=(Target(backend="b"),))
    quota = Limits(quotas=(Quota(amount=9, unit="tokens", period="day"),))

    for parsed in (_parsed(org=quota, **fields), _parsed(unpriced, **fields)):
        assert isinstance(parsed, ParsedRequest), param
        assert all(
            msgspec.json.decode(parsed.call.payload)[name] == fields[name] for name in fields
        )


def test_a_model_says_what_becomes_of_unknown_fields() -> None:
    """Refused everywhere, or passed everywhere; what is priced stays priced."""
    strict = msgspec.structs.replace(FLAT, unknown_fields="refuse")
    lenient = msgspec.structs.replace(FLAT, unknown_fields="pass")

    assert _param(_parsed(strict, org=NONE, new=1)) == "new"
    assert isinstance(_parsed(lenient, new=1), ParsedRequest)
    assert _param(_parsed(lenient, service_tier="priority")) == "service_tier"


@pytest.mark.parametrize("name", ["new", "service_tier", "modalities", "web_search_options"])
def test_null_counts_as_absent(name: str) -> None:
    """SDKs send it for what their user did not set."""
    absent: dict[str, Any] = {name: None}

    assert isinstance(_parsed(**absent), ParsedRequest)


@pytest.mark.parametrize(
    ("fields", "reach"),
    [
        ({"service_tier": "priority"}, {"service_tier": "priority"}),
        ({"service_tier": "fast"}, {"service_tier": "priority"}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"modalities": ["text"]}, {}),
        ({"modalities": ["text", "audio"], "audio": {}}, {"audio_output": True}),
        ({"tools": [FUNCTION]}, {}),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, {}),
        ({"tools": [SEARCH]}, {"tool_kinds": ["web_search"], "tool_calls_bound": 3}),
        ({"tools": [SEARCH], "n": 2}, {"tool_kinds": ["web_search"], "tool_calls_bound": 6}),
        (
            {"web_search_options": {"search_context_size": "low"}},
            {"tool_kinds": ["web_search:low"], "tool_calls_bound": 3},
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "text",
                                "text": "x",
                                "cache_control": {"type": "ephemeral", "ttl": "1h"},
                            }
                        ],
                    }
                ]
            },
            {"cache_writes_1h": True},
        ),
    ],
)
def test_what_is_priced_is_read_into_the_reach(
    fields: dict[str, Any], reach: dict[str, Any]
) -> None:
    """A price list that states writes to a cache is held to them by every request."""
    assert _reach(**fields) == Reach(cache_writes=True, **reach)


@pytest.mark.parametrize(
    "marked",
    [
        {"cache_control": {"type": "ephemeral"}},
        {"messages": [{**SAID, "cache_control": {"type": "ephemeral"}}]},
        {"tools": [{**FUNCTION, "cache_control": {"type": "ephemeral"}}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": {}}],
                }
            ]
        },
        {"prompt_cache_options": {"mode": "explicit"}},
        {"prompt_cache_retention": "24h"},
    ],
)
def test_a_mark_writes_to_a_cache_wherever_it_stands(marked: dict[str, Any]) -> None:
    """At several times the price of reading input, so it is held."""
    assert _reach(FLAT, **marked) == Reach(cache_writes=True)


def test_a_text_that_speaks_of_marks_is_text() -> None:
    """Its quotes are escaped."""
    said = 'set "cache_control" and "ttl": "1h"'

    assert _reach(FLAT, messages=[{"role": "user", "content": said}]) is None


def test_a_plain_request_reaches_nothing() -> None:
    """Of a model with three flat prices."""
    assert _reach(FLAT, temperature=0.5, tools=[FUNCTION], user="u", store=False) is None


def _bounds(**fields: Any) -> tuple[int, int]:
    parsed = _parsed(LISTED, **fields)
    assert isinstance(parsed, ParsedRequest)
    return parsed.call.input_tokens_bound, parsed.call.output_tokens_bound


def test_hosted_tools_are_held_at_the_whole_context_window() -> None:
    """What they find is input that the body does not hold."""
    assert _bounds(tools=[SEARCH])[0] == 200_000
    assert _bounds()[0] < 1_000


def test_a_prediction_is_held_as_output() -> None:
    """Tokens of it that are rejected are billed so (OpenAI, completion_tokens_details)."""
    prediction = {"type": "content", "content": "x" * 5_000}

    assert _bounds(prediction=prediction)[1] >= _bounds()[1] + 5_000
    assert _bounds(prediction=prediction, n=2)[1] >= _bounds(n=2)[1] + 10_000


def test_the_dearest_of_choices_is_held() -> None:
    """``best_of`` of servers that make more than they show."""
    assert _bounds(best_of=4, max_tokens=10)[1] == 40


def test_a_part_of_an_unknown_type_is_refused_where_its_tokens_count() -> None:
    """Against a budget, a quota or a rate; elsewhere it passes."""
    video = [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]}]
    rate, quota = (
        Limits(tokens_per_min=9),
        Limits(quotas=(Quota(amount=9, unit="tokens", period="day"),)),
    )

    for limits in (BUDGET, rate, quota):
        assert _param(_parsed(org=limits, messages=video)) == "messages[0].content[0].type"
    assert isinstance(_parsed(org=NONE, messages=video), ParsedRequest)
    strict = msgspec.structs.replace(FLAT, unknown_fields="refuse")
    assert isinstance(_parsed(strict, org=NONE, messages=video), Refusal)


def test_other_routes_name_the_field_as_their_clients_do() -> None:
    """What stands in parameters is named there."""
    asked = {
        "request_id": "0199d5a0-0000-7000-8000-000000000000",
        "model": "m",
        "payload": "hi",
        "parameters": {"service_tier": "priority"},
    }
    told = inference.parse(asked, _snapshot(FLAT), CALLER)
    assert _param(told) == "parameters.service_tier"
    job = _parsed(parse=jobs.parse, background=True)
    assert _param(job) == "background"


def test_embeddings_have_a_closed_world_too() -> None:
    """A field that is not in its table is refused where a budget applies."""
    asked: dict[str, Any] = {"model": "m", "input": "x", "user": "u", "input_type": "query"}

    assert isinstance(embeddings.parse(asked, _snapshot(FLAT), CALLER), ParsedRequest)
    unknown = {**asked, "rerank": True}
    assert _param(embeddings.parse(unknown, _snapshot(FLAT), CALLER)) == "rerank"
    free = _snapshot(FLAT, org=NONE)
    assert isinstance(embeddings.parse(unknown, free, CALLER), ParsedRequest)

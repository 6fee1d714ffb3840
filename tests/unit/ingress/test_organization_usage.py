"""Usage and costs in OpenAI's shapes: the figures of `/v1/usage`, and what nobody keeps is refused by its name."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from schemas.usage import UsageRow, cell
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway

NOW_S = NOW_MS // 1_000
TODAY_S = NOW_S - NOW_S % 86_400
ORGANIZATION = "/v1/organization"
ROWS = {
    UsageRow("key_a", "-", "echo", "b1"): {
        "requests": 2, "attempts": 3, "input_tokens": 100, "cached_tokens": 40, "cache_write_tokens": 7,
        "cache_write_1h_tokens": 3, "audio_input_tokens": 5, "output_tokens": 9, "cost_nano_usd": 1_500,
    },
    UsageRow("key_a", "ada", "echo", "b2"): {"requests": 1, "attempts": 1, "cost_nano_usd": 123_456_789_012_345},
    UsageRow("key_b", "ada", "wide", "b1"): {"requests": 1, "attempts": 1, "input_tokens": 1, "unpriced": 1},
}  # fmt: skip


def _gateway() -> Gateway:
    """One whose organization used something in this hour; its first key has a project."""
    gateway = Gateway()
    cells = {cell(row.encoded(), name): n for row, said in ROWS.items() for name, n in said.items()}
    gateway.ledger.usage_hours["acme", "2023-11-14T22"] = cells
    keys = dict(gateway.config.snapshot.keys)
    keys["key_a"] = msgspec.structs.replace(keys["key_a"], project="acme.web")
    gateway.config.snapshot = replace(gateway.config.snapshot, keys=keys)
    return gateway


async def _results(path: str, query: str = "") -> list[dict[str, Any]]:
    answer = await _gateway().client.get(f"{ORGANIZATION}{path}?start_time={TODAY_S}{query}")
    assert answer.status_code == 200, answer.text
    page = json.loads(answer.content, parse_float=Decimal)
    assert (page["object"], page["has_more"], page["next_page"]) == ("page", False, None)
    (bucket,) = page["data"]
    assert (bucket["object"], bucket["start_time"]) == ("bucket", TODAY_S)
    results: list[dict[str, Any]] = bucket["results"]
    return results


async def test_usage_is_told_in_openais_names() -> None:
    """All of the input, and of it what a cache had or got; what nobody keeps is null."""
    (result,) = await _results("/usage/completions")

    assert result == {
        "object": "organization.usage.completions.result",
        "input_tokens": 101, "input_cached_tokens": 40, "input_cache_write_tokens": 10,
        "input_uncached_tokens": 51, "input_audio_tokens": 5, "output_tokens": 9, "output_audio_tokens": 0,
        "num_model_requests": 4, "project_id": None, "user_id": None, "api_key_id": None, "model": None,
        "batch": None, "service_tier": None,
    }  # fmt: skip


async def test_costs_are_told_to_the_nano_dollar() -> None:
    """As numbers with all their places; what has no price has no amount."""
    results = await _results("/costs", "&group_by=line_item,user_id")

    assert [(each["line_item"], each["user_id"], each["amount"]) for each in results] == [
        ("echo", None, {"value": Decimal("0.000001500"), "currency": "usd"}),
        ("echo", "ada", {"value": Decimal("123456.789012345"), "currency": "usd"}),
        ("wide", "ada", None),
    ]
    assert {each["object"] for each in results} == {"organization.costs.result"}


async def test_both_are_grouped_by_whose_it_is() -> None:
    """The project is the one that the key has; keys without one share none."""
    for path in ("/usage/completions", "/costs"):
        results = await _results(path, "&group_by[]=project_id&group_by[]=api_key_id")
        told = [(each["project_id"], each["api_key_id"], each["user_id"]) for each in results]
        assert told == [("acme.web", "key_a", None), (None, "key_b", None)]


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ("&models=wide", 1), ("&models[]=wide&models[]=echo", 4), ("&api_key_ids=key_a", 3),
        ("&project_ids=acme.web", 3), ("&user_ids=ada", 2), ("&user_ids=ada&models=echo", 1),
        ("&models=none", 0), ("&user_ids=-", 0),
    ],
)  # fmt: skip
async def test_filters_leave_only_what_they_name(query: str, requests: int) -> None:
    """Those of one parameter are alternatives, those of several all hold."""
    results = await _results("/usage/completions", query)

    assert sum(each["num_model_requests"] for each in results) == requests


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("/usage/completions", "?bucket_width=1m", "bucket_width"),
        ("/usage/completions", "?group_by=service_tier", "group_by"),
        ("/usage/completions", "?group_by=line_item", "group_by"),
        ("/usage/completions", "?batch=true", "batch"),
        ("/costs", "?bucket_width=1h", "bucket_width"),
        ("/costs", "?group_by=api_source", "group_by"),
        ("/costs", "?models=echo", "models"),
        ("/costs", "?limit=181", "limit"),
    ],
)
async def test_what_nobody_keeps_is_refused_by_its_parameter(
    path: str, query: str, param: str
) -> None:
    """400 in OpenAI's shape, before anything is read: nobody is shown less than they asked to tell apart."""
    gateway = _gateway()
    answer = await gateway.client.get(f"{ORGANIZATION}{path}{query}")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert gateway.ledger.usage_calls == 0


async def test_usage_of_one_operation_is_not_found_and_says_where_it_is() -> None:
    """Usage is kept by model; nobody is told of it without a key."""
    gateway = _gateway()
    answer = await gateway.client.get(f"{ORGANIZATION}/usage/embeddings?start_time={TODAY_S}")
    error = answer.json()["error"]
    del gateway.client.headers["x-api-key"]
    stranger = await gateway.client.get(f"{ORGANIZATION}/usage/embeddings")

    assert (answer.status_code, error["code"]) == (404, "not_found")
    assert "embeddings: /v1/organization/usage/completions" in error["message"]
    assert stranger.status_code == 401


@pytest.mark.parametrize("path", ["/usage/completions", "/costs"])
async def test_a_key_of_limited_scopes_sees_its_own(path: str) -> None:
    """As `/v1/usage` has it: an organization's usage is for keys that may read it."""
    gateway = _gateway()
    keys = dict(gateway.config.snapshot.keys)
    keys["key_a"] = msgspec.structs.replace(keys["key_a"], scopes=("inference",))
    gateway.config.snapshot = replace(gateway.config.snapshot, keys=keys)
    query = f"?start_time={TODAY_S}&group_by=api_key_id"
    page = (await gateway.client.get(f"{ORGANIZATION}{path}{query}")).json()

    assert [each["api_key_id"] for each in page["data"][0]["results"]] == ["key_a"]

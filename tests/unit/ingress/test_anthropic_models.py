"""Models, as clients of Anthropic see them."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.apis.anthropic.contract import ModelInfo
from ingress.apis.anthropic.models import LIMIT_MAX, model_info, model_page
from ingress.http.refusals import Refusal
from schemas.entities import Model, Target
from tests.support.configuration import LIMITED_SECRET
from tests.support.gateway import Gateway

VERSION = {"anthropic-version": "2023-06-01"}
NAMES = [f"m{number}" for number in range(5)]
MODEL = Model(backends=(Target("b"),), context_window_tokens=8_000, max_output_tokens=500)


def _info(name: str) -> ModelInfo:
    return model_info(name, MODEL, 1_795_782_791)


def _page(**query: str) -> tuple[list[str], bool]:
    page = model_page(NAMES, query, _info)
    assert not isinstance(page, Refusal)
    ids = [each["id"] for each in page["data"]]
    ends = (page["first_id"], page["last_id"])
    assert ends == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, page["has_more"]


def test_a_model_tells_its_bounds_and_when_it_was_written() -> None:
    assert _info("m0") == {
        "type": "model",
        "id": "m0",
        "display_name": "m0",
        "created_at": "2026-11-27T12:33:11Z",
        "lifecycle": "active",
        "max_input_tokens": 8_000,
        "max_tokens": 500,
    }


@pytest.mark.parametrize(
    ("query", "ids", "has_more"),
    [
        ({}, NAMES, False),
        ({"limit": "2"}, ["m0", "m1"], True),
        ({"limit": "2", "after_id": "m1"}, ["m2", "m3"], True),
        ({"limit": "2", "after_id": "m3"}, ["m4"], False),
        ({"after_id": "m4"}, [], False),
        ({"limit": "2", "before_id": "m4"}, ["m2", "m3"], True),
        ({"limit": "9", "before_id": "m2"}, ["m0", "m1"], False),
        ({"before_id": "m0"}, [], False),
        ({"after_id": "m1-which-is-gone"}, ["m2", "m3", "m4"], False),
        ({"limit": str(LIMIT_MAX), "after_id": "\x00\udcff"}, NAMES, False),
    ],
)
def test_pages_go_on_behind_and_before_a_model(
    query: dict[str, str], ids: list[str], *, has_more: bool
) -> None:
    assert _page(**query) == (ids, has_more)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": str(LIMIT_MAX + 1)}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"after_id": "a", "before_id": "b"}, "before_id"),
    ],
)
def test_a_page_that_cannot_be_is_refused_by_name(query: dict[str, str], param: str) -> None:
    refusal = model_page(NAMES, query, _info)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (400, param)


async def test_the_header_of_anthropics_api_decides_in_whose_terms_models_are_told() -> None:
    """Refusals too, and Anthropic's own headers; OpenAI's clients see nothing of it."""
    client = Gateway().client

    async def ask(path: str, **headers: str) -> tuple[int, dict[str, Any], bool]:
        answer = await client.get(path, headers=headers)
        return answer.status_code, answer.json(), "request-id" in answer.headers

    status, page, is_named = await ask("/v1/models", **VERSION)
    assert (status, [each["id"] for each in page["data"]], is_named) == (200, ["capped", "echo"], True)  # fmt: skip
    assert (await ask("/v1/models/echo", **VERSION))[1] == page["data"][1]
    for path, headers, kind in (
        ("/v1/models?limit=x", {}, "invalid_request_error"),
        ("/v1/models/none", {}, "not_found_error"),
        ("/v1/models/echo", {"x-api-key": LIMITED_SECRET}, "not_found_error"),
        ("/v1/models", {"x-api-key": "wrong"}, "authentication_error"),
    ):
        _, body, is_named = await ask(path, **VERSION, **headers)
        assert (body["type"], body["error"]["type"], is_named) == ("error", kind, True)
    _, body, is_named = await ask("/v1/models/none")
    assert (body["error"]["code"], "type" in body, is_named) == ("model_not_found", False, False)

"""The OpenAPI document says what the public application does: its routes, and the fields of its errors."""

from __future__ import annotations

import json
import re
from typing import Any, Final, get_args

import pytest
import yaml
from starlette.routing import Route

from deploy.reference.openapi import openapi_page
from ingress.http.refusals import Refusal, refusal_body
from schemas.errors import ErrorCode
from schemas.events import Denial
from schemas.operations import Surface
from tests.support.gateway import Gateway

_METHODS: Final = ("get", "post", "delete")
_CONVERTER: Final = re.compile(r":\w+}")


def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(openapi_page())
    return document


async def test_the_document_has_the_routes_of_the_application() -> None:
    """Each method of each path, and no other."""
    routes = [route for route in Gateway().app.others.routes if isinstance(route, Route)]
    served = {
        (_CONVERTER.sub("}", route.path), method.lower())
        for route in routes
        for method in route.methods or ("POST",)
    }
    told = {
        (path, method)
        for path, item in _document()["paths"].items()
        for method in item
        if method in _METHODS
    }

    assert told == {(path, method) for path, method in served if method != "head"}


_DENIAL: Final = Denial(
    limit_id="org:budget:day", limit_type="budget", unit="nano_usd", current_usage=1, limit=1
)
_BY_LIMIT: Final = Refusal(ErrorCode.BUDGET_EXCEEDED, "spent", denial=_DENIAL)
_BY_US: Final = Refusal(ErrorCode.INVALID_REQUEST, "no", param="model")


@pytest.mark.parametrize("surface", get_args(Surface))
@pytest.mark.parametrize("refusal", [_BY_US, _BY_LIMIT])
def test_an_error_has_the_fields_that_the_document_demands(
    surface: Surface, refusal: Refusal
) -> None:
    """Under its content type, in every operation of its surface."""
    document = _document()
    content_type, body = refusal_body(refusal, surface, "0190a7c2-6f4e-7cc1-9a51-3f5d2a1b4c6d")
    contents = [
        operation["responses"]["default"]["content"]
        for item in document["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict) and operation.get("tags") == [surface]
    ]
    (name,) = {content[content_type.decode()]["schema"]["$ref"] for content in contents}
    schema = document["components"]["schemas"][name.rpartition("/")[2]]

    assert set(schema["required"]) <= set(json.loads(body))

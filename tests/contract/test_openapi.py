"""The OpenAPI document says what the applications do: their routes, and the fields of their errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, get_args

import msgspec
import pytest
import yaml
from starlette.routing import Route

from deploy.reference.openapi.admin_routes import ADMIN_PREFIX, TOLD
from deploy.reference.openapi.page import html_page
from deploy.reference.usage_schema import usage_schema_page
from ingress.admin.route_roles import ROUTE_ROLES
from ingress.http.refusals import Refusal, refusal_body
from schemas.codec import decode, newest_of
from schemas.errors import ErrorCode
from schemas.events import Denial, UsageRecorded
from schemas.operations import OPERATIONS, Surface
from tests.support.api_contract import ApiContract, api_contract, read_document
from tests.support.calls_in_code import ROOT
from tests.support.gateway import Gateway
from tests.support.json_schema import is_valid

_METHODS: Final = ("get", "post", "put", "delete")
_CONVERTER: Final = re.compile(r":\w+}")
_NATIVE: Final = (
    "InferenceRequest",
    "InferenceResponse",
    "UsageSummary",
    "ErrorResponse",
    "LimitErrorResponse",
)
"""Names that the specification fixes."""
_REQUEST_ID: Final = "0190a7c2-6f4e-7cc1-9a51-3f5d2a1b4c6d"


def _told(*, is_admin: bool) -> set[tuple[str, str]]:
    return {
        (path, method)
        for path, item in read_document()["paths"].items()
        for method in item
        if method in _METHODS and path.startswith(ADMIN_PREFIX) is is_admin
    }


async def test_the_document_has_the_routes_of_the_public_application() -> None:
    """Each method of each path, and no other."""
    routes = [route for route in Gateway().app.others.routes if isinstance(route, Route)]
    served = {
        (_CONVERTER.sub("}", route.path), method.lower())
        for route in routes
        for method in route.methods or ("POST",)
    }

    assert _told(is_admin=False) == {(path, method) for path, method in served if method != "head"}


def test_the_document_has_the_routes_of_the_admin_api() -> None:
    """Those of the table of roles, without which none is served; and nothing is told of others."""
    rows = {(row.method, row.path) for row in ROUTE_ROLES}
    served = {(ADMIN_PREFIX + _CONVERTER.sub("}", path), method.lower()) for method, path in rows}

    assert set(TOLD) == rows, (
        "deploy/reference/openapi/admin_routes.py says what each takes and answers"
    )
    assert _told(is_admin=True) == served


@pytest.mark.parametrize("name", _NATIVE)
def test_the_native_surface_has_the_names_of_the_specification(name: str) -> None:
    """With fields, and where a route needs it."""
    document = read_document()

    assert document["components"]["schemas"][name]["properties"]
    assert f'"#/components/schemas/{name}"' in json.dumps(document)


def test_every_reference_leads_somewhere() -> None:
    """Also those to what only one route needs."""
    document = read_document()

    for reference in _references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_operations_have_ids_of_their_own() -> None:
    """Makers of clients name functions by them."""
    items = read_document()["paths"].values()
    ids = [item[method]["operationId"] for item in items for method in item if method in _METHODS]

    assert len(ids) == len(set(ids))


_DENIAL: Final = Denial(
    limit_id="org:budget:day", limit_type="budget", unit="nano_usd", current_usage=1, limit=1
)
_BY_LIMIT: Final = Refusal(ErrorCode.BUDGET_EXCEEDED, "spent", denial=_DENIAL)
_CONTENDED: Final = Refusal(ErrorCode.BUDGET_EXCEEDED, "held", denial=_DENIAL, status_override=429)
_BY_US: Final = Refusal(ErrorCode.INVALID_REQUEST, "no", param="model")


@pytest.mark.parametrize("surface", get_args(Surface))
@pytest.mark.parametrize("refusal", [_BY_US, _BY_LIMIT, _CONTENDED])
def test_an_error_is_as_the_document_says(surface: Surface, refusal: Refusal) -> None:
    """Under its status and content type, in every operation of its surface."""
    content_type, body = refusal_body(refusal, surface, _REQUEST_ID)

    for row in OPERATIONS.values():
        if row.surface == surface:
            assert (
                api_contract().problem(
                    "POST", row.path, refusal.status, content_type.decode(), body
                )
                is None
            )


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (418, "application/json", b"{}"),
        (200, "text/html", b""),
        (200, "application/json", b"{}"),
        (200, "application/json", b'{"object":"list","data":[]}x'),
        (200, "application/json", b'{"object":"list","data":[],"more":1}'),
        (200, "application/json", b'{"object":"list","data":[{"id":"m","object":"model"}]}'),
    ],
)
def test_an_answer_that_is_not_as_the_document_says_is_found(
    status: int, content_type: str, body: bytes
) -> None:
    """An unknown status, content type, or field; a missing field; what is no JSON."""
    contract = api_contract()

    assert (
        contract.problem(
            "GET", "/v1/models", 200, "application/json", b'{"object":"list","data":[]}'
        )
        is None
    )
    assert contract.problem("GET", "/v1/models", status, content_type, body) is not None


def test_what_is_a_backends_own_is_not_judged() -> None:
    """It is relayed as it came, and a number in it may be longer than Python reads; a refusal is ours."""
    contract, path = api_contract(), OPERATIONS["chat.completions"].path
    long = b'{"usage":{"prompt_tokens":%b}}' % (b"9" * 5_000)

    assert contract.problem("POST", path, 200, "application/json", long) is None
    assert contract.problem("POST", path, 400, "application/json", long) is not None


def test_a_longer_path_is_not_taken_for_an_id() -> None:
    """Ids of models and backends may contain slashes."""
    contract = ApiContract(read_document())
    body = b'{"key_id":"k","version":1}'
    path = f"{ADMIN_PREFIX}/keys/k/revoke"

    assert contract.problem("POST", path, 200, "application/json", body) is None


def test_the_page_asks_nothing_of_any_other_host() -> None:
    """No script, and nothing that a browser would fetch."""
    page = html_page()

    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!#|/)[^"]*"|url\(|@import', page) == []


def test_the_page_has_every_route() -> None:
    """By method and path."""
    page = html_page()

    for path, method in _told(is_admin=False) | _told(is_admin=True):
        assert f"<code>{method.upper()}</code> \n<code>{path}</code>" in page


def test_usage_records_are_as_their_schema_says() -> None:
    """Every golden record of any version, as consumers of the newest see it."""
    schema = yaml.safe_load(usage_schema_page())
    records = [
        decode((ROOT / "tests" / "golden" / f"UsageRecorded.v{version}.bin").read_bytes())
        for version in (1, 2)
    ]

    for record in records:
        assert isinstance(record, UsageRecorded)
        assert is_valid(_builtins(record), schema, schema)
        assert not is_valid(_builtins(record) | {"org": None}, schema, schema)


def test_the_usage_schema_has_every_field_of_the_record() -> None:
    """Required are those without a default."""
    schema = yaml.safe_load(usage_schema_page())
    fields = newest_of(UsageRecorded.__name__)[1]["fields"]

    assert list(schema["properties"]) == [field["name"] for field in fields]
    assert schema["required"] == [field["name"] for field in fields if "default" not in field]


def _builtins(record: UsageRecorded) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return fields


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _references(each)

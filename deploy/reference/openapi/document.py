"""The API in OpenAPI 3.1: all public and admin routes, put together from their contracts and the code's own shapes.

Bodies of OpenAI's surface are OpenAI's and are not told again here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import yaml

from deploy.reference.openapi.admin_routes import admin_routes
from deploy.reference.openapi.components import Components
from deploy.reference.openapi.contract import JSON, Answer, Parameter, RouteContract, Surface
from deploy.reference.openapi.public_routes import ON_BOTH_PORTS, public_routes
from deploy.reference.openapi.shown_entities import LISTED
from ingress.admin.fleet.health import BackendSeen
from ingress.apis.answer_format import UsageSummary
from ingress.apis.native.contract import InferenceDelta, InferenceSummary
from schemas.error_bodies import (
    AnthropicErrorResponse,
    ErrorResponse,
    LimitErrorResponse,
    OpenAIErrorResponse,
)
from schemas.errors import ERRORS, ErrorCode

_MADE: Final = "# Made by `make docs` from the routes and shapes of the code (deploy/reference/openapi); change those, not this.\n"
_PROBLEM: Final = "application/problem+json"
_LIMITED: Final = frozenset(
    {ErrorCode.BUDGET_EXCEEDED, ErrorCode.QUOTA_EXCEEDED, ErrorCode.RATE_LIMIT_EXCEEDED}
)
_TOO_MANY: Final = 429
"""Also of a spent budget or quota that running requests will give back."""
_ERRORS: Final[Mapping[Surface, tuple[str, Any]]] = {
    "openai": (JSON, OpenAIErrorResponse),
    "anthropic": (JSON, AnthropicErrorResponse),
    "native": (_PROBLEM, ErrorResponse),
    "admin": (_PROBLEM, ErrorResponse),
}
_ABOUT: Final = (
    "The public API and, below `/admin/v1`, the admin API, which has a port of its own. Every answer of the public API "
    "carries `x-request-id`. Objects may get further fields: ignore those that you do not know."
)
_REQUEST_ID: Final = {
    "description": "What `tallygate requests show` takes.",
    "schema": {"type": "string"},
}
_PUBLIC: Final = {"url": "http://127.0.0.1:8080", "description": "The public port."}
_ADMIN: Final = {
    "url": "http://127.0.0.1:8443",
    "description": "The admin port; https, and for certificates with a role only, where it has TLS.",
}
_MEANT_ALSO: Final = (
    BackendSeen,
    InferenceDelta,
    InferenceSummary,
    UsageSummary,
    LimitErrorResponse,
)
"""Shapes of events and parts that no route has as its whole body."""


def openapi_page() -> str:
    """The document, as YAML."""
    return _MADE + yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=120)


def openapi_json() -> str:
    """The document, as it is served."""
    return json.dumps(document(), ensure_ascii=False, indent=1) + "\n"


@cache
def document() -> dict[str, Any]:
    """The document."""
    shapes = Components()
    shapes.add(*LISTED.values(), *_MEANT_ALSO)
    public = _paths(public_routes(), shapes)
    admin = _paths(admin_routes(), shapes)
    told = {
        path: {"servers": [_PUBLIC, _ADMIN], **item} if path in ON_BOTH_PORTS else item
        for path, item in public.items()
    }
    told |= {path: {"servers": [_ADMIN], **item} for path, item in admin.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tallygate API", "version": "v1", "description": _ABOUT},
        "servers": [_PUBLIC],
        "security": [{"bearer": []}, {"key": []}],
        "paths": told,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "certificate": {"type": "mutualTLS"},
            },
            "headers": {"x-request-id": _REQUEST_ID},
            "responses": shapes.responses,
            "schemas": shapes.schemas(),
        },
    }


def _paths(routes: Iterable[RouteContract], shapes: Components) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for route in routes:
        found.setdefault(route.path, {})[route.method.lower()] = _operation(route, shapes)
    return found


def _operation(route: RouteContract, shapes: Components) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.surface],
    }
    if route.is_open:
        told["security"] = []
    elif route.surface == "admin":
        told["security"] = [{}, {"certificate": []}]
    if route.parameters:
        told["parameters"] = list(map(_parameter, route.parameters))
    if route.body is not None:
        schema = shapes.one_of(route.body)
        content = {route.body_media: {"schema": schema}}
        told["requestBody"] = {"required": route.is_body_required, "content": content}
    return told | {"responses": _responses(route, shapes)}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    told = {"name": parameter.name, "in": parameter.place, "description": parameter.meaning}
    required = {"required": True} if parameter.place == "path" else {}
    return told | required | {"schema": dict(parameter.schema)}


def _responses(route: RouteContract, shapes: Components) -> dict[str, Any]:
    """By status; where successes and errors share one, both bodies are told."""
    found: dict[str, dict[str, Any]] = {}
    for status, answer in route.answers.items():
        found[str(status)] = _answer(route, answer, shapes)
    for told_status, told in _refusals(route, shapes):
        if told_status in found:
            found[told_status]["content"] = told["content"] | found[told_status].get("content", {})
        else:
            found[told_status] = shapes.response(f"{route.surface}-{told_status}", told)
    return dict(sorted(found.items()))


def _answer(route: RouteContract, answer: Answer, shapes: Components) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.meaning, **_headers(route, *answer.headers)}
    schema = {} if answer.shape is None else {"schema": shapes.one_of(answer.shape)}
    content = {media: {} if number else schema for number, media in enumerate(answer.media)}
    return told | ({"content": content} if content else {})


def _refusals(route: RouteContract, shapes: Components) -> Iterator[tuple[str, dict[str, Any]]]:
    codes: dict[int, list[ErrorCode]] = {}
    for code in ErrorCode:
        if code in route.errors:
            codes.setdefault(ERRORS[code].status, []).append(code)
            if code in _LIMITED and ERRORS[code].status != _TOO_MANY:
                codes.setdefault(_TOO_MANY, []).append(code)
    for status, those in sorted(codes.items()):
        named = ", ".join(f"`{code}`" for code in those)
        content = _error_content(route, is_limit=not _LIMITED.isdisjoint(those), shapes=shapes)
        yield str(status), {"description": f"{named}.", **_headers(route), "content": content}
    if route.relays_refusals:
        why = "The status with which a backend refused the request, `upstream_rejected`."
        content = _error_content(route, is_limit=False, shapes=shapes)
        yield "4XX", {"description": why, **_headers(route), "content": content}  # fmt: skip


def _error_content(route: RouteContract, *, is_limit: bool, shapes: Components) -> dict[str, Any]:
    spoken: dict[str, list[Any]] = {}
    for surface in (route.surface, *route.also_spoken):
        media, shape = _ERRORS[surface]
        spoken.setdefault(media, []).append(shape)
    content = {
        media: {"schema": shapes.one_of(of[0] if len(of) == 1 else tuple(of))}
        for media, of in spoken.items()
    }
    if is_limit and route.surface == "native":
        content[JSON] = {"schema": shapes.one_of(LimitErrorResponse)}
    return content


def _headers(route: RouteContract, *more: str) -> dict[str, Any]:
    told: dict[str, Any] = {name: {"schema": {"type": "string"}} for name in more}
    if route.surface != "admin":
        told["x-request-id"] = {"$ref": "#/components/headers/x-request-id"}
    return {"headers": told} if told else {}

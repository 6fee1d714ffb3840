"""The public API in OpenAPI 3.1: routes from the table of operations, errors from the table of errors.

Bodies of OpenAI's surface are OpenAI's and are not told again here.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from ingress.http import paths
from schemas.errors import ERRORS
from schemas.operations import JOBS, OPERATIONS, Operation, Surface

_MADE: Final = "# Made by `make docs` from schemas/operations.py, schemas/errors.py and ingress/http/paths.py; change those, not this.\n"
_JSON: Final = "application/json"
_ERRORS: Final[dict[Surface, dict[str, str]]] = {
    "openai": {_JSON: "OpenAIError"},
    "native": {"application/problem+json": "Problem", _JSON: "LimitRefusal"},
}
"""Media type to the schema of what is not a success."""
_REQUEST_ID: Final = {
    "description": "What `tallygate requests show` takes.",
    "schema": {"type": "string", "format": "uuid"},
}
_REQUEST_HEADERS: Final = {
    "Idempotency-Key": "Runs once: the same key and body joins the first request, or gets its answer again.",
    "Prefer": "`respond-async`, `wait=<seconds>`: after that long the answer is 202 and a job.",
    "traceparent": "W3C trace context; goes on through the log.",
}


def openapi_page() -> str:
    """The document, as YAML."""
    told = _operations()
    told[JOBS.path]["get"] = _get("List jobs, newest first.", "native", _jobs_query())
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Tallygate, public API", "version": "v1"},
        "security": [{"bearer": []}, {"key": []}],
        "paths": told | _jobs() | _models() | _status(),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
            "headers": {"x-request-id": _REQUEST_ID},
            "schemas": _schemas(),
        },
    }
    return _MADE + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _operations() -> dict[str, Any]:
    return {row.path: {"post": _operation(row)} for row in OPERATIONS.values()}


def _operation(row: Operation) -> dict[str, Any]:
    properties: dict[str, Any] = {"model": {"type": "string"}}
    if row.streams:
        properties["stream"] = {"type": "boolean"}
    schema = {"type": "object", "required": ["model"], "properties": properties}
    queued = {"202": _answer("A job; `location` says where.", _JSON)}
    done = {"200": _answer("The answer.", _JSON, *["text/event-stream"] * row.streams)}
    return {
        "operationId": row.name,
        "tags": [row.surface],
        "parameters": [_header(name, meaning) for name, meaning in _REQUEST_HEADERS.items()],
        "requestBody": {"required": True, "content": {_JSON: {"schema": schema}}},
        "responses": (queued if row.keeps_result else done | queued) | _errors(row.surface),
    }


def _jobs() -> dict[str, Any]:
    one = {"parameters": [_in_path("job_id")]}
    show = _get("One job, with its result or error once it has ended.", "native")
    cancel = _get("Cancel a job; the answer is what it is now.", "native")
    return {paths.job_path("{job_id}"): one | {"get": show, "delete": cancel}}


def _models() -> dict[str, Any]:
    one = {"parameters": [_in_path("name")], "get": _get("One model.", "openai")}
    return {
        paths.MODELS: {"get": _get("The models that the key may use.", "openai")},
        f"{paths.MODELS}/{{name}}": one,
    }


def _status() -> dict[str, Any]:
    told = {
        paths.HEALTHZ: "What works and what is missing; always 200.",
        paths.READYZ: "The same; 503 when no request could be served.",
        paths.STARTUPZ: "Whether it has started.",
        paths.METRICS: "Metrics in Prometheus text form.",
    }
    return {path: {"get": {"security": [], "summary": what, "responses": {"default": {"description": what}}}} for path, what in told.items()}  # fmt: skip


def _get(summary: str, surface: Surface, parameters: list[Any] | None = None) -> dict[str, Any]:
    about: dict[str, Any] = {"summary": summary, "tags": [surface]}
    if parameters:
        about["parameters"] = parameters
    return about | {"responses": {"200": _answer("The answer.", _JSON)} | _errors(surface)}


def _answer(description: str, *content_types: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}},
        "content": {content_type: {} for content_type in content_types},
    }


def _errors(surface: Surface) -> dict[str, Any]:
    schemas = {
        media: {"schema": {"$ref": f"#/components/schemas/{name}"}}
        for media, name in _ERRORS[surface].items()
    }
    return {"default": {"description": "Why not.", "content": schemas}}


def _schemas() -> dict[str, Any]:
    text, code = {"type": "string"}, {"$ref": "#/components/schemas/ErrorCode"}
    limit = {"code": code, "limit_type": text, "current_usage": {}, "limit": {}, "retry_after": {}}
    error = _object(message=text, type=text, param={"type": ["string", "null"]}, code=code)
    return {
        "ErrorCode": {"type": "string", "enum": [code.value for code in ERRORS]},
        "OpenAIError": {
            "description": "A refusal by a limit has the fields of `LimitRefusal` beside `error`.",
            **_object(error=error),
        },
        "Problem": {
            "description": "RFC 9457.",
            **_object(type=text, title=text, status={"type": "integer"}, code=code),
        },
        "LimitRefusal": _object(error=text, **limit),
    }


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(fields), "properties": fields}


def _jobs_query() -> list[Any]:
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}}  # fmt: skip
    return [limit, {"name": "after", "in": "query", "description": "The id of a job.", "schema": {"type": "string"}}]  # fmt: skip


def _header(name: str, meaning: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": meaning, "schema": {"type": "string"}}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}

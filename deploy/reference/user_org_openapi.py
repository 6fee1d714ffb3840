"""The contract with a user-org service in OpenAPI 3.1, from the values that ingress reads its answers into."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import yaml

from deploy.reference.field_docs import field_docs
from ingress.auth.user_org.answers import (
    ANSWER_BYTES_MAX,
    CREDENTIAL,
    ISSUER,
    PATH,
    SUBJECT,
    Known,
)

_MADE: Final = (
    "# Made by `make docs` from ingress/auth/user_org/answers.py; change that, not this.\n"
)
_ABOUT: Final = (
    "A company runs this service; the gateway asks it. A question names a credential that the gateway itself does not "
    "know, or a user for whom an identity provider vouched. Answer within 2 s. Whatever is not as written here counts as "
    "no answer: the last one about that caller holds for the stated time, then it gets 503. Redirects are not followed "
    f"and nothing compressed is taken; an answer has at most {ANSWER_BYTES_MAX} bytes."
)
_HEADERS: Final = {
    CREDENTIAL: "The credential that is asked about, as its caller sent it. Either this or the next two.",
    ISSUER: "The issuer of the identity provider that vouched for a user.",
    SUBJECT: "The user, as that provider's tokens say `sub`, percent-encoded (UTF-8).",
    "If-None-Match": "The ETag of the last answer about the same caller, where there was one.",
}


def user_org_page() -> str:
    """The document, as YAML."""
    document = {
        "openapi": "3.1.0",
        "info": {"title": "User-org service of a gateway", "version": "v1", "description": _ABOUT},
        "security": [{"gateway": []}],
        "paths": {PATH: {"get": _question()}},
        "components": {
            "securitySchemes": {
                "gateway": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`TALLYGATE_USER_ORG_TOKEN`, where that is set.",
                }
            },
            "schemas": {"Caller": _caller()},
        },
    }
    return _MADE + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _question() -> dict[str, Any]:
    etag = {"ETag": {"description": "Changes with the answer.", "schema": {"type": "string"}}}
    caller = {"application/json": {"schema": {"$ref": "#/components/schemas/Caller"}}}
    return {
        "operationId": "caller",
        "summary": "Whose is this caller?",
        "parameters": [
            {"name": name, "in": "header", "description": what, "schema": {"type": "string"}}
            for name, what in _HEADERS.items()
        ],
        "responses": {
            "200": {"description": "Where it belongs.", "headers": etag, "content": caller},
            "304": {"description": "As the ETag that was sent says."},
            "404": {"description": "Nobody of that kind is known; remembered for a few seconds."},
        },
    }


def _caller() -> dict[str, Any]:
    """The schema of an answer. Fields that are not in it are ignored."""
    _, named = msgspec.json.schema_components([Known])
    made: dict[str, Any] = _in_ecmascript(named[Known.__name__])
    del made["title"]
    told = field_docs(Known)
    for field, schema in made["properties"].items():
        schema["description"] = " ".join(told[field].split())
    return made


def _in_ecmascript(schema: Any) -> Any:
    """The schema with patterns that end as those of JSON Schema do."""
    if isinstance(schema, dict):
        return {
            name: value.replace(r"\Z", "$") if name == "pattern" else _in_ecmascript(value)
            for name, value in schema.items()
        }
    return [_in_ecmascript(each) for each in schema] if isinstance(schema, list) else schema

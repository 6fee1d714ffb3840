"""The contract with an external budget service in OpenAPI 3.1, from the values that the code sends and reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml

from deploy.reference.field_docs import field_docs
from deploy.reference.markdown import prose
from schemas.budget_service import (
    CHECK_PATH,
    SPEND_PATH,
    Allow,
    Answer,
    Check,
    Deny,
    Spend,
    SpendLine,
)

_MADE: Final = "# Made by `make docs` from schemas/budget_service.py; change that, not this.\n"
_JSON: Final = "application/json"
_AMOUNT: Final = {"pattern": r"^-?[0-9]{1,24}(\.[0-9]{1,24})?$"}
_AMOUNTS: Final = frozenset({"bound_usd", "current_usage", "limit", "remaining_usd", "spent_usd"})
_ABOUT: Final = """\
What Tallygate asks of a budget service, and tells it. Amounts of USD are plain decimal strings.

The limiter asks `check` at most once per organization, key and `valid_for_ms`, within the timeout that is set
(2 s). Every status but 200, a redirect, and a body that is none of the answers here count as silence: then the
policy of the organization holds.

A remainder is kept exactly when the service counts a spend line, once by its `id`, before it answers `spend` with
a 2xx, and counts in an answer to `check` every line that it took before it was asked. What the gateway has on hold
or has booked and not told yet counts against the remainder on its side. Ids come again for three days and must be
known so long.
"""


def budget_service_page() -> str:
    """The document, as YAML."""
    shapes = (Answer, Check, Spend)
    _, schemas = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    for shape in (Allow, Check, Deny, Spend, SpendLine):
        _describe(schemas[shape.__name__], shape)
    refs = [{"$ref": f"#/components/schemas/{each.__name__}"} for each in (Allow, Deny)]
    mapping = {"allow": refs[0]["$ref"], "deny": refs[1]["$ref"]}
    answer = {"oneOf": refs, "discriminator": {"propertyName": "decision", "mapping": mapping}}
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Tallygate, external budget service",
            "version": "v1",
            "description": " ".join(_ABOUT.split()),
        },
        "security": [{}, {"bearer": []}],
        "paths": {
            CHECK_PATH: {"post": _call("Ask whether a request may be spent for.", "Check", answer)},
            SPEND_PATH: {"post": _call("Tell what was spent, at least once.", "Spend", None)},
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    }
    return _MADE + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _call(summary: str, body: str, answer: dict[str, Any] | None) -> dict[str, Any]:
    sent = {_JSON: {"schema": {"$ref": f"#/components/schemas/{body}"}}}
    responses: dict[str, Any]
    if answer is not None:
        responses = {"200": {"description": "The answer.", "content": {_JSON: {"schema": answer}}}}
    else:
        counted = {"description": "Every line is counted, by this call or an earlier one."}
        refused = "None of these lines is counted, and no repetition changes that: they come by halves, and one that is refused alone is passed over."
        responses = {
            "2XX": counted,
            "413": {"description": refused},
            "422": {"description": refused},
        }
    responses["default"] = {"description": "No answer: it is asked or told again later."}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": sent},
        "responses": responses,
    }


def _describe(schema: dict[str, Any], shape: type) -> None:
    """Fields mean what their texts in the source say."""
    docs = {name: text for each in _bases(shape) for name, text in field_docs(each).items()}
    for name, told in schema["properties"].items():
        if name in docs:
            told["description"] = re.sub(r"\s+", " ", prose(docs[name]))
        if name in _AMOUNTS:
            told.update(_AMOUNT)


def _bases(shape: type) -> Iterator[type]:
    return (each for each in shape.__mro__ if each.__module__ == shape.__module__)

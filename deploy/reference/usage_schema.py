"""The contract of the usage record as JSON Schema, made from its newest Avro schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from schemas.codec import newest_of
from schemas.events import UsageRecorded

_MADE: Final = "# Made by `make docs` from the newest schemas/avro/UsageRecorded.*.avsc; change that, not this.\n"
_PRIMITIVES: Final[Mapping[str, dict[str, Any]]] = {
    "null": {"type": "null"},
    "boolean": {"type": "boolean"},
    "int": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "long": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float": {"type": "number"},
    "double": {"type": "number"},
    "string": {"type": "string"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
}


def usage_schema_page() -> str:
    """The document, as YAML."""
    _, avro = newest_of(UsageRecorded.__name__)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A record of usage.records.v1",
        **json_schema(avro),
    }
    return _MADE + yaml.safe_dump(schema, sort_keys=False, allow_unicode=True, width=120)


def json_schema(avro: Any) -> dict[str, Any]:
    """The JSON Schema of what an Avro schema describes; bytes are base64. Raises ``KeyError`` for a kind that it does not know."""
    if isinstance(avro, list):
        branches = list(map(json_schema, avro))
        return branches[0] if len(branches) == 1 else {"anyOf": branches}
    if isinstance(avro, str):
        return dict(_PRIMITIVES[avro])
    told = {"description": avro["doc"]} if "doc" in avro else {}
    match avro["type"]:
        case "record":
            return told | _record(avro["fields"])
        case "array":
            return told | {"type": "array", "items": json_schema(avro["items"])}
        case "map":
            return told | {"type": "object", "additionalProperties": json_schema(avro["values"])}
        case "enum":
            return told | {"type": "string", "enum": list(avro["symbols"])}
        case other:
            return told | json_schema(other)


def _record(fields: list[dict[str, Any]]) -> dict[str, Any]:
    """A field with a default may be missing from a record of an older version."""
    properties = {}
    for field in fields:
        more = {"description": field["doc"]} if "doc" in field else {}
        default = {"default": field["default"]} if "default" in field else {}
        properties[field["name"]] = {**json_schema(field["type"]), **more, **default}
    required = [field["name"] for field in fields if "default" not in field]
    return {"type": "object", "required": required, "properties": properties}

"""Judges values by JSON Schema, as far as our published documents use it (2020-12); anything else is refused."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "number": (int, float, Decimal),
    "null": (type(None),),
}
_SAID: Final = {
    "$schema", "$defs", "title", "description", "default", "discriminator", "format", "contentEncoding",
}  # fmt: skip


def is_valid(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether the value is as the schema of the document says. Raises ``KeyError`` for an unknown keyword."""
    return all(
        name in _SAID or _RULES[name](value, rule, document, schema)
        for name, rule in schema.items()
    )


def _ref(value: Any, rule: str, document: dict[str, Any], _: Any) -> bool:
    found: Any = document
    for part in rule.removeprefix("#/").split("/"):
        found = found[part]
    return is_valid(value, found, document)


def _type(value: Any, rule: str | list[str], *_: Any) -> bool:
    if isinstance(rule, list):
        return any(_type(value, one) for one in rule)
    return isinstance(value, _TYPES[rule]) and (rule == "boolean") == isinstance(value, bool)


def _properties(value: Any, rule: dict[str, Any], document: dict[str, Any], _: Any) -> bool:
    return not isinstance(value, dict) or all(
        is_valid(value[name], schema, document) for name, schema in rule.items() if name in value
    )


def _additional(value: Any, rule: Any, document: dict[str, Any], schema: dict[str, Any]) -> bool:
    """What no property names; ``False`` allows none of it, ``True`` all."""
    if not isinstance(value, dict) or rule is True:
        return True
    others = [one for name, one in value.items() if name not in schema.get("properties", {})]
    return not others if rule is False else all(is_valid(one, rule, document) for one in others)


def _number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


_RULES: Final[dict[str, Any]] = {
    "$ref": _ref,
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": lambda value, rule, doc, _: (
        not isinstance(value, dict) or all(is_valid(name, rule, doc) for name in value)
    ),
    "minLength": lambda value, rule, *_: not isinstance(value, str) or len(value) >= rule,
    "enum": lambda value, rule, *_: value in rule,
    "required": lambda value, rule, *_: not isinstance(value, dict) or set(rule) <= set(value),
    "anyOf": lambda value, rule, doc, _: any(is_valid(value, one, doc) for one in rule),
    "oneOf": lambda value, rule, doc, _: sum(is_valid(value, one, doc) for one in rule) == 1,
    "minimum": lambda value, rule, *_: not _number(value) or value >= rule,
    "maximum": lambda value, rule, *_: not _number(value) or value <= rule,
    "exclusiveMinimum": lambda value, rule, *_: not _number(value) or value > rule,
    "maxLength": lambda value, rule, *_: not isinstance(value, str) or len(value) <= rule,
    "pattern": lambda value, rule, *_: not isinstance(value, str) or bool(re.search(rule, value)),
    "minItems": lambda value, rule, *_: not isinstance(value, list) or len(value) >= rule,
    "maxItems": lambda value, rule, *_: not isinstance(value, list) or len(value) <= rule,
    "items": lambda value, rule, doc, _: (
        not isinstance(value, list) or all(is_valid(one, rule, doc) for one in value)
    ),
}

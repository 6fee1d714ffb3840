"""Finds every problem of a value that should be of a type, where msgspec stops at the first: pure.

Structs and tuples of structs are walked; each leaf is judged by msgspec itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import msgspec


@dataclass(frozen=True)
class Problem:
    """Something wrong, and the path to it, such as ``models.gpt-x.backends[0].weight``."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def field_problems(value: Any, wanted: Any, path: str) -> Iterator[Problem]:
    """What keeps the value from being of the type, each with its path."""
    plain = get_args(wanted)[0] if get_origin(wanted) is Annotated else wanted
    if _is_struct(plain) and isinstance(value, Mapping):
        yield from _struct_problems(value, plain, path)
        return
    items = _item_problems(value, plain, path)
    if items:
        yield from items
        return
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        yield Problem(path + where.rstrip("`"), what + _hint(value, what))


def _hint(value: Any, what: str) -> str:
    """What stands there, where a text was taken for a number by its writer, or the other way round."""
    if isinstance(value, str) and what.endswith("got `str`"):
        return f" {value[:40]!r}; numbers stand as in JSON"
    if isinstance(value, int | float) and what.startswith("Expected `str"):
        return f" {value!r}; write it in quotes"
    return ""


def _struct_problems(
    value: Mapping[Any, Any], wanted: type[msgspec.Struct], path: str
) -> Iterator[Problem]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(wanted)}
    for name in value:
        if name not in fields:
            yield Problem(f"{path}.{name}", f"unknown; one of {', '.join(fields)}")
    for name, field in fields.items():
        if name in value:
            yield from field_problems(value[name], field.type, f"{path}.{name}")
        elif field.required:
            yield Problem(f"{path}.{name}", "missing")


def _item_problems(value: Any, wanted: Any, path: str) -> list[Problem]:
    """Of the items alone, where a tuple of structs is wanted; the tuple itself comes after them."""
    arguments = get_args(wanted)
    if get_origin(wanted) is not tuple or not _is_struct(arguments[0]):
        return []
    items = value if isinstance(value, list) else []
    return [
        problem
        for index, item in enumerate(items)
        for problem in field_problems(item, arguments[0], f"{path}[{index}]")
    ]


def _is_struct(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, msgspec.Struct)

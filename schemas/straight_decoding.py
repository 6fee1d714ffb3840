"""Decoders in plain Python, one for each Avro schema: from the bytes of a record to its values in a straight line. Pure.

The counterpart of ``straight_encoding``. A decoder takes only bytes of which there can be no two opinions. Of
any other ones it fails with one of ``DOUBTFUL``, and its caller asks fastavro, which says what they are.
Source: Avro 1.12 specification, binary encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

__all__ = ["DOUBTFUL", "Decoder", "straight_decoder"]

Decoder: TypeAlias = Callable[[bytes, int], tuple[Any, int]]
"""Takes bytes and where the value begins; gives it, and where it ends."""

DOUBTFUL: Final = (AttributeError, IndexError, TypeError, ValueError)
"""What a decoder fails with; ``UnicodeDecodeError`` is a ``ValueError``."""

_GOES_ON: Final = 0x80
_SHIFT_MAX: Final = 56
_NUMBER: Final = ("n = d[p]; p += 1", "if n > 127: n, p = more(n, d, p)")
_LENGTH: Final = (*_NUMBER, "if n & 1: raise ValueError", "n = p + (n >> 1)")


def _more(number: int, data: bytes, at: int) -> tuple[int, int]:
    """A number of several bytes, of which the first was read: up to nine, so that it has 63 bits at most."""
    number -= _GOES_ON
    shift = 7
    while (byte := data[at]) >= _GOES_ON:
        number += (byte - _GOES_ON) << shift
        shift += 7
        at += 1
        if shift > _SHIFT_MAX:
            raise ValueError(number)
    return number + (byte << shift), at + 1


class _Maker:
    """The decoders of one schema, with the record types that it names."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self.names: dict[str, Any] = {"more": _more}
        self._types = types
        self._records: dict[str, str] = {}

    def record(self, schema: dict[str, Any]) -> str:
        """The name of the function that decodes a record."""
        function = f"record_{len(self._records)}"
        for name in (schema["name"], f"{schema.get('namespace', '')}.{schema['name']}"):
            self._records[name] = function
        self.names[f"type_{function}"] = self._types[schema["name"]]
        lines, given = [], []
        for number, field in enumerate(schema["fields"]):
            lines += self._value(field["type"], f"v{number}")
            given.append(f"{field['name']}=v{number}")
        made = f"return type_{function}({', '.join(given)}), p"
        self._define(function, [*lines, "if p > len(d): raise IndexError", made])
        return function

    def _define(self, function: str, lines: list[str]) -> None:
        source = "\n".join((f"def {function}(d, p):", *(f"    {line}" for line in lines)))
        exec(source, self.names)  # noqa: S102 made of our own schemas alone

    def _value(self, kind: Any, name: str) -> list[str]:
        """Statements that read a value into the variable ``name``."""
        if isinstance(kind, list):
            return self._union(kind, name)
        match kind["type"] if isinstance(kind, dict) else kind:
            case "string":
                return [*_LENGTH, f"{name} = d[p:n].decode(); p = n"]
            case "bytes":
                return [*_LENGTH, f"{name} = d[p:n]; p = n"]
            case "long" | "int":
                return [*_NUMBER, f"{name} = n >> 1 ^ -(n & 1)"]
            case "boolean":
                return [
                    "n = d[p]; p += 1",
                    "if n > 1: raise ValueError",
                    f"{name} = n == 1",
                ]
            case "record":
                return [f"{name}, p = {self.record(kind)}(d, p)"]
            case "array":
                return [f"{name}, p = {self._items(kind['items'])}(d, p)"]
            case named if named in self._records:
                return [f"{name}, p = {self._records[named]}(d, p)"]
        raise NotImplementedError(kind)

    def _union(self, kinds: list[Any], name: str) -> list[str]:
        first, second = kinds
        if first != "null":
            raise NotImplementedError(kinds)
        return [
            "n = d[p]; p += 1",
            f"if n == 0: {name} = None",
            "elif n == 2:",
            *(f"    {line}" for line in self._value(second, name)),
            "else: raise ValueError",
        ]

    def _items(self, kind: Any) -> str:
        function = f"items_{len(self.names)}"
        self.names[function] = None
        item = self._value(kind, "v")
        self._define(
            function,
            [
                "items = []",
                *_NUMBER,
                "while n:",
                "    if n & 1: raise ValueError",
                "    for _ in range(n >> 1):",
                *(f"        {line}" for line in item),
                "        items.append(v)",
                *(f"    {line}" for line in _NUMBER),
                "return items, p",
            ],
        )
        return function


def straight_decoder(schema: dict[str, Any], types: Mapping[str, Any]) -> Decoder:
    """The decoder of a record's body into the type of its name.

    Raises ``NotImplementedError`` for a schema with what hardly one of ours has.
    """
    maker = _Maker(types)
    decoder: Decoder = maker.names[maker.record(schema)]
    return decoder

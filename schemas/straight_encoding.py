"""Encoders in plain Python, one for each Avro schema: from the values of a record to its bytes in a straight line. Pure.

fastavro looks up in the schema what it does with each field, after msgspec made a dictionary of the record. Here
that is done once, when an encoder is made: as source text of one statement for each field. Of a value that is not
as its schema says an encoder fails with one of ``ODD``, and its caller asks fastavro instead. So does one of a
schema that has no encoder. Source: Avro 1.12 specification, binary encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

__all__ = ["ODD", "Encoder", "straight_encoder"]

Encoder: TypeAlias = Callable[[Any], bytes]

ODD: Final = (AttributeError, IndexError, OverflowError, TypeError, UnicodeEncodeError)
"""What an encoder fails with when a value is not as its schema says."""

_GOES_ON_BIT: Final = 0x80
_SEVENS: Final = 14
_LOW: Final = (1 << _SEVENS) - 1
_UNSIGNED_MAX: Final = 2**64 - 1
_ODD_IN_UNION: Final = {
    "int": "{0}.__class__ is not int or not -0x80000000 <= {0} <= 0x7FFFFFFF",
    "long": "{0}.__class__ is not int",
    "boolean": "{0}.__class__ is not bool",
}
"""A branch of a union is that of the value's own type and range; a value alone is only written."""


_ENDS: Final = (
    *(bytes((number,)) for number in range(_GOES_ON_BIT)),
    *(
        bytes((number & 0x7F | _GOES_ON_BIT, number >> 7))
        for number in range(_GOES_ON_BIT, _LOW + 1)
    ),
)
"""Numbers of up to 14 bits, which end there."""
_GOES_ON: Final = tuple(
    bytes((number & 0x7F | _GOES_ON_BIT, number >> 7 | _GOES_ON_BIT)) for number in range(_LOW + 1)
)
"""The lowest 14 bits of numbers that go on."""


def _long(number: int) -> bytes:
    """A number that stands zigzagged already: 0, -1, 1 as 0, 1, 2."""
    if number <= _LOW:
        return _ENDS[number]
    if number > _UNSIGNED_MAX:
        raise OverflowError(number)
    return _GOES_ON[number & _LOW] + _long(number >> _SEVENS)


def _array(items: list[Any], encode: Callable[[Iterable[Any]], bytes]) -> bytes:
    return _long(len(items) << 1) + encode(items) + b"\0" if items else b"\0"


class _Maker:
    """The encoders of one schema, with the record types that it names."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"E": _ENDS, "long": _long, "array": _array, "join": b"".join}
        self._records: dict[str, str] = {}

    def record(self, schema: dict[str, Any], *begins: str) -> str:
        """The name of the function that encodes a record, whose bytes begin with those of ``begins``."""
        function = f"record_{len(self._records)}"
        for name in (schema["name"], f"{schema.get('namespace', '')}.{schema['name']}"):
            self._records[name] = function
        lines: list[str] = []
        parts = list(begins)
        for number, field in enumerate(schema["fields"]):
            made, lasting = self._value(field["type"], f"r.{field['name']}", f"v{number}")
            lines += made
            parts += lasting
        self._define(f"def {function}(r):", [*lines, f"return join(({', '.join(parts)},))"])
        return function

    def _define(self, head: str, lines: list[str]) -> None:
        source = "\n".join((head, *(f"    {line}" for line in lines)))
        exec(source, self.names)  # noqa: S102 made of our own schemas alone

    def _value(self, kind: Any, given: str, name: str) -> tuple[list[str], list[str]]:
        """Statements that take the value of expression ``given``, and the expressions of its bytes."""
        if isinstance(kind, list):
            return self._union(kind, given, name)
        match kind["type"] if isinstance(kind, dict) else kind:
            case "string":
                return [f"{name} = {given}.encode()"], [f"E[len({name}) << 1]", name]
            case "bytes":
                return [f"{name} = {given}"], [f"long(len({name}) << 1)", name]
            case "long" | "int":
                zigzag = f"{name} = {given}; {name} = {name} << 1 ^ {name} >> 63"
                return [zigzag], [f"E[{name}] if {name} < {_LOW} else long({name})"]
            case "boolean":
                return [], [f"b'\\1' if {given} else b'\\0'"]
            case "record":
                return [], [f"{self.record(kind)}({given})"]
            case "array":
                return [], [f"array({given}, {self._items(kind['items'])})"]
            case named if named in self._records:
                return [], [f"{self._records[named]}({given})"]
        raise NotImplementedError(kind)

    def _union(self, kinds: list[Any], given: str, name: str) -> tuple[list[str], list[str]]:
        first, second = kinds
        if first != "null":
            raise NotImplementedError(kinds)
        made, parts = self._value(second, name, f"{name}_")
        lines = [f"{name} = {given}", f"if {name} is None: {name} = b'\\0'"]
        if isinstance(second, str) and (odd := _ODD_IN_UNION.get(second)):
            lines.append(f"elif {odd.format(name)}: raise TypeError({name})")
        return [
            *lines,
            "else:",
            *(f"    {line}" for line in made),
            f"    {name} = join((b'\\2', {', '.join(parts)}))",
        ], [name]

    def _items(self, kind: Any) -> str:
        function = f"items_{len(self.names)}"
        self.names[function] = None
        lines, parts = self._value(kind, "i", "v")
        body = [*lines, *(f"add({part})" for part in parts)]
        self._define(
            f"def {function}(items):",
            [
                "out = []; add = out.append",
                "for i in items:",
                *(f"    {line}" for line in body),
                "return join(out)",
            ],
        )
        return function


def straight_encoder(schema: dict[str, Any], header: bytes) -> Encoder:
    """The encoder of a record behind its header.

    Raises ``NotImplementedError`` for a schema with what hardly one of ours has.
    """
    maker = _Maker()
    maker.names["header"] = header
    encoder: Encoder = maker.names[maker.record(schema, "header")]
    return encoder

"""The components of the document: schemas of the classes that routes name, with the texts that stand in their source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from deploy.reference.field_docs import field_docs
from deploy.reference.markdown import prose
from deploy.reference.openapi.contract import Named

REF: Final = "#/components/schemas/{name}"


@dataclass(slots=True)
class Components:
    """Collects shapes, and tells the schemas of all of them and of their parts."""

    _classes: dict[str, Any] = field(default_factory=dict)
    _named: dict[str, Named] = field(default_factory=dict)
    responses: dict[str, Any] = field(default_factory=dict)
    """Those that several routes share, by name."""

    def add(self, *shapes: Any) -> None:
        """Note shapes. Raises ``ValueError`` for two of one name."""
        for shape in shapes:
            into, name = (
                (self._named, shape.name)
                if isinstance(shape, Named)
                else (self._classes, shape.__name__)
            )
            if into.setdefault(name, shape) != shape:
                raise ValueError(f"two shapes are called {name}")

    def one_of(self, shape: Any) -> dict[str, Any]:
        """What refers to a shape, or to one of several."""
        if isinstance(shape, tuple):
            return {"anyOf": list(map(self.one_of, shape))}
        self.add(shape)
        name = shape.name if isinstance(shape, Named) else shape.__name__
        return {"$ref": REF.format(name=name)}

    def response(self, name: str, told: dict[str, Any]) -> dict[str, str]:
        """What refers to a response, under its name or the name with the first number that is free."""
        number = 1
        while self.responses.setdefault(numbered := f"{name}-{number}", told) != told:
            number += 1
        return {"$ref": f"#/components/responses/{numbered}"}

    def schemas(self) -> dict[str, Any]:
        """All of them, by name."""
        found = schemas_of(list(self._classes.values()))
        found |= {name: in_ecmascript(dict(named.schema)) for name, named in self._named.items()}
        return {name: found[name] for name in sorted(found)}


def schemas_of(classes: list[Any]) -> dict[str, Any]:
    """The schemas of classes and of all that they are made of, by name."""
    _, told = msgspec.json.schema_components(classes, ref_template=REF)
    by_name = {each.__name__: each for each in _classes(msgspec.inspect.multi_type_info(classes))}
    return {name: in_ecmascript(_described(by_name[name], schema)) for name, schema in told.items()}


def _classes(found: Any) -> Iterator[Any]:
    """The classes in what msgspec says of a type."""
    if isinstance(found, list | tuple):
        for each in found:
            yield from _classes(each)
    elif isinstance(found, msgspec.inspect.Type | msgspec.inspect.Field):
        if (shape := getattr(found, "cls", None)) is not None:
            yield shape
        for name in found.__struct_fields__:
            yield from _classes(getattr(found, name))


def _described(shape: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the texts of the class and of its fields."""
    fields = {name: text for each in shape.__mro__[-2::-1] for name, text in _texts(each).items()}
    told = {
        name: {**field_schema, "description": fields[name]} if name in fields else field_schema
        for name, field_schema in schema.get("properties", {}).items()
    }
    about = {"description": prose(shape.__doc__)} if shape.__doc__ else {}
    return {**schema, **about, **({"properties": told} if told else {})}


def _texts(shape: Any) -> dict[str, str]:
    try:
        return {name: prose(text) for name, text in field_docs(shape).items()}
    except (OSError, TypeError):
        return {}  # It has no source: a class of Python itself, or one that was made by a call.


def in_ecmascript(schema: Any) -> Any:
    """The schema without titles that repeat a name, with patterns that end as those of JSON Schema do."""
    if isinstance(schema, list):
        return list(map(in_ecmascript, schema))
    if not isinstance(schema, dict):
        return schema
    return {
        name: value.replace(r"\Z", "$")
        if name == "pattern" and isinstance(value, str)
        else in_ecmascript(value)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str))
    }

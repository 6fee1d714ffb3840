"""Rows about settings classes: variables, defaults, bounds, meaning."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from deploy.reference.field_docs import field_docs, own_fields
from deploy.reference.markdown import code, prose
from schemas.runtime.process.specified import SPECIFIED, variable_of

_BOUNDS = (("ge", "from {}"), ("gt", "above {}"), ("le", "to {}"), ("lt", "below {}"))


def setting_rows(settings: type[BaseSettings]) -> Iterator[tuple[str, str, str, str]]:
    """Variable, default, bounds, meaning of each field that the class itself states."""
    docs = field_docs(settings)
    for name in own_fields(settings):
        field = settings.model_fields[name]
        meaning = prose(docs[name])
        yield code(variable_of(name)), _default(field), _bounds(field), meaning


def specified_rows() -> Iterator[tuple[str, str, str]]:
    """Each variable of the specification, the setting that it fills, and what it is here."""
    for row in SPECIFIED:
        setting = code(variable_of(row.setting)) if row.setting else ""
        yield code(row.name), setting, row.meaning


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    return "none" if field.default is None else code(str(field.default))


def _bounds(field: FieldInfo) -> str:
    return " ".join(
        text.format(getattr(part, name))
        for part in field.metadata
        for name, text in _BOUNDS
        if getattr(part, name, None) is not None
    )

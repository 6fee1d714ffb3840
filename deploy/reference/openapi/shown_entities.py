"""Entities as the admin API shows and takes them: made from the entities themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, get_args

import msgspec

from deploy.reference.markdown import prose
from deploy.reference.openapi.components import REF, schemas_of
from deploy.reference.openapi.contract import Named
from ingress.admin.config.entities import KIND_OF_PATH
from ingress.admin.config.override_edit import SPAN_MAX_S
from ingress.admin.fleet.health import BackendSeen
from schemas.entities import KINDS, EarlierSecret, Kind
from schemas.overrides import OVERRIDES
from schemas.peppers import PepperAge

_AGE: Final = {"type": "string", "enum": list(get_args(PepperAge))}
_AGE_OR_NONE: Final = {"anyOf": [_AGE, {"type": "null"}]}
_ForS = Annotated[float, msgspec.Meta(gt=0, le=SPAN_MAX_S)] | None


def _without_secrets(shape: Any) -> dict[str, Any]:
    """All fields that are shown, each of which is always there."""
    fields = dict(schemas_of([shape])[shape.__name__]["properties"])
    if fields.pop("hash", None) is not None:
        fields |= {"pepper": _AGE, "signing": _AGE_OR_NONE}
    return fields


def _shown(kind: Kind, **more: Any) -> Named:
    shape = KINDS[kind]
    fields: dict[str, Any] = {"id": {"type": "string"}, "version": {"type": "integer"}}
    fields |= _without_secrets(shape) | more
    if kind == "key":
        earlier = _without_secrets(EarlierSecret)
        fields["earlier"] = {"type": "array", "items": _closed(earlier)}
    about: str = f"{prose(shape.__doc__ or '')} With its id and version."
    name = f"{shape.__name__}{'Listed' if more else 'Shown'}"
    return Named(name, {"description": about, **_closed(fields)})  # fmt: skip


def _closed(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(fields), "properties": dict(fields)}


def _list_of(item: Named) -> Named:
    items = {"type": "array", "items": {"$ref": REF.format(name=item.name)}}
    return Named(f"{item.name}List", _closed({"items": items}))


_SEEN: Final = {"type": "array", "items": {"$ref": REF.format(name=BackendSeen.__name__)}}
SHOWN: Final[Mapping[Kind, Named]] = {kind: _shown(kind) for kind in KIND_OF_PATH.values()}
"""An entity by itself."""
LISTED: Final[Mapping[Kind, Named]] = {
    **SHOWN,
    "backend": _shown("backend", drained={"type": "boolean"}, health=_SEEN),
}
"""An entity in the list of its kind."""
LISTS: Final[Mapping[Kind, Named]] = {kind: _list_of(LISTED[kind]) for kind in LISTED}


def _override_body(shape: Any) -> Named:
    schema = schemas_of([shape])[shape.__name__]
    (for_s,), _ = msgspec.json.schema_components([_ForS])
    fields = {**schema["properties"], "for_s": for_s}
    return Named(f"{shape.__name__}Body", {**schema, "properties": fields})


OVERRIDE_BODIES: Final = tuple(_override_body(shape) for shape in OVERRIDES.values())
"""An override as it is sent: it ends at `expires_at_ms`, or `for_s` seconds from now."""

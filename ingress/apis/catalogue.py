"""Decides which models a caller may use. One that is not allowed looks like an unknown one."""

from __future__ import annotations

from typing import Any, Final

from ingress.apis.parsed_request import Fields, invalid
from ingress.auth.api_key import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.entities import Model
from schemas.errors import ErrorCode

_NAMES_SHOWN: Final = 20
_NAME_CHARS_SHOWN: Final = 128


def usable_models(snapshot: Snapshot, caller: Caller) -> list[str]:
    """Names of the models the caller may use, sorted."""
    if caller.models is None:
        return sorted(snapshot.models)
    return sorted(name for name in set(caller.models) if name in snapshot.models)


def find_model(snapshot: Snapshot, caller: Caller, name: str) -> Model | Refusal:
    """The model, or a 404 that lists what the caller may use."""
    model = snapshot.models.get(name)
    if model is not None and (caller.models is None or name in caller.models):
        return model
    if ("model", name) in snapshot.closed and (caller.models is None or name in caller.models):
        what = f"The configuration of the model {name!r} cannot be read here."
        return Refusal(ErrorCode.SERVICE_UNAVAILABLE, what, param="model")
    usable = usable_models(snapshot, caller)
    listed = ", ".join(usable[:_NAMES_SHOWN]) or "none"
    more = f" and {len(usable) - _NAMES_SHOWN} more" if len(usable) > _NAMES_SHOWN else ""
    return Refusal(
        ErrorCode.MODEL_NOT_FOUND,
        f"The model {name[:_NAME_CHARS_SHOWN]!r} does not exist or is not open to this key. "
        f"Models this key may use: {listed}{more}.",
        param="model",
    )


def asked_model(fields: Fields, snapshot: Snapshot, caller: Caller) -> Model | Refusal:
    """The model that a body names."""
    name = fields.get("model")
    if not isinstance(name, str) or not name:
        return invalid("model", "must be a non-empty string")
    return find_model(snapshot, caller, name)


def model_object(name: str, created_s: int) -> dict[str, Any]:
    """The model as OpenAI's ``model`` object."""
    return {"id": name, "object": "model", "created": created_s, "owned_by": "tallygate"}

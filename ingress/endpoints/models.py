"""Models: those a key may use, as OpenAI lists them; to clients of Anthropic, which say so in a header, as that does."""

from __future__ import annotations

from typing import Literal, TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ingress.apis.anthropic.contract import ModelInfo
from ingress.apis.anthropic.models import model_info, model_page
from ingress.auth.api_key import find_model, usable_models
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.paths import place_of_request
from ingress.http.refusals import Refusal
from ingress.http.responses import refusal_response


class ModelObject(TypedDict):
    """OpenAI's object of a model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    """The models that a key may use."""

    object: Literal["list"]
    data: list[ModelObject]


class ModelRoutes:
    """The models a key may use."""

    def __init__(self, gatekeeper: Gatekeeper) -> None:
        self._gatekeeper = gatekeeper

    async def list_all(self, request: Request) -> Response:
        """All of them; to clients of Anthropic some, as they ask."""
        caller = await self._gatekeeper.caller(request.scope, "models:read")
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        snapshot = self._gatekeeper.config.snapshot
        names = usable_models(snapshot, caller)
        if place_of_request(request.scope).surface == "anthropic":

            def info_of(name: str) -> ModelInfo:
                return model_info(name, snapshot.models[name], self._created_s(name))

            page = model_page(names, request.query_params, info_of)
            if isinstance(page, Refusal):
                return refusal_response(request, page)
            return JSONResponse(page)
        listed = [_model_object(name, self._created_s(name)) for name in names]
        body: ModelList = {"object": "list", "data": listed}
        return JSONResponse(body)

    async def show(self, request: Request) -> Response:
        """One of them."""
        caller = await self._gatekeeper.caller(request.scope, "models:read")
        if isinstance(caller, Refusal):
            return refusal_response(request, caller)
        name = request.path_params["name"]
        model = find_model(self._gatekeeper.config.snapshot, caller, name)
        if isinstance(model, Refusal):
            return refusal_response(request, model)
        created_s = self._created_s(name)
        if place_of_request(request.scope).surface == "anthropic":
            return JSONResponse(model_info(name, model, created_s))
        return JSONResponse(_model_object(name, created_s))

    def _created_s(self, name: str) -> int:
        """When the model's entry was last written."""
        entry = self._gatekeeper.config.entry("model", name)
        return 0 if entry is None else entry.written_at_ms // 1000


def _model_object(name: str, created_s: int) -> ModelObject:
    """The model as OpenAI's ``model`` object."""
    return {"id": name, "object": "model", "created": created_s, "owned_by": "tallygate"}

"""What a new stack is filled with through the admin API: backends, models, an org and a first key.

Invariant: seeding adds what is missing and moves backends to their present address; it never
overwrites what a user changed. A desired-state file, which the user wrote, is applied whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from deploy.embedded.problem import StackError
from deploy.embedded.upstreams import Upstream
from schemas.runtime.process.secret_files import FILE

KINDS = ("backends", "models", "orgs", "projects", "users", "keys")
BACKEND_FACTS = ("url", "api_key_env")
DEMO_ORG = "demo"
# A first benchmark should meet the machine's limit, not ours.
DEMO_LIMITS = {"requests_per_s": 100_000, "burst": 100_000}
EXAMPLE_MODEL = "echo-1"
EXAMPLE_PRICES = {
    "input_usd_per_mtok": "0.50",
    "output_usd_per_mtok": "1.50",
    "default_max_output_tokens": 1024,
}


@dataclass(frozen=True)
class Entity:
    """One entry of the desired state: `PUT /{kind}/{id}` with `body`."""

    kind: str
    id: str
    body: Mapping[str, Any]

    @property
    def path(self) -> str:
        return f"/{self.kind}/{quote(self.id, safe='')}"


def demo_org() -> Entity:
    """The org of the first key."""
    return Entity("orgs", DEMO_ORG, {"limits": DEMO_LIMITS})


def backend_entity(upstream: Upstream, environment: Mapping[str, str]) -> Entity:
    """The backend; its key is named, never copied."""
    names = (upstream.key_variable, upstream.key_variable + FILE)
    variable = upstream.key_variable if any(map(environment.get, names)) else None
    return Entity("backends", upstream.id, {"url": upstream.url, "api_key_env": variable})


def model_entities(
    models: Mapping[str, Iterable[str]], prices: Mapping[str, Any]
) -> tuple[Entity, ...]:
    """A model for every id any backend serves, from {backend id: model ids}, evenly weighted."""
    served: dict[str, list[str]] = {}
    for backend, names in models.items():
        for name in names:
            served.setdefault(name, []).append(backend)
    return tuple(
        Entity("models", name, {"backends": [_weighted(b) for b in backends], **prices})
        for name, backends in served.items()
    )


async def seed_missing(admin: httpx.AsyncClient, entities: Iterable[Entity]) -> None:
    """PUT every entity that does not exist yet, and every backend that moved."""
    existing: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entity in entities:
        if entity.kind not in existing:
            existing[entity.kind] = await list_entities(admin, entity.kind)
        if needs_put(entity, existing[entity.kind].get(entity.id)):
            await put(admin, entity)


def needs_put(entity: Entity, current: Mapping[str, Any] | None) -> bool:
    """True if `entity` is missing, or is a backend whose address or key variable changed."""
    if current is None:
        return True
    return entity.kind == "backends" and any(
        current.get(fact) != entity.body.get(fact) for fact in BACKEND_FACTS
    )


async def list_entities(admin: httpx.AsyncClient, kind: str) -> dict[str, Mapping[str, Any]]:
    """The existing entities of a kind, by id."""
    response = _checked(await admin.get(f"/{kind}"))
    return {item["id"]: item for item in response.json()["items"]}


async def put(admin: httpx.AsyncClient, entity: Entity) -> None:
    """Create or replace one entity. Raises StackError if the admin API refuses it."""
    _checked(await admin.put(entity.path, json=dict(entity.body)))


async def create_first_key(admin: httpx.AsyncClient) -> str:
    """Create a key of the demo org and return its secret, which is shown only this once."""
    body = {"org": DEMO_ORG, "name": "first", "limits": DEMO_LIMITS}
    response = _checked(await admin.post("/keys", json=body))
    return str(response.json()["key"])


def _weighted(backend: str) -> dict[str, Any]:
    return {"backend": backend, "weight": 1}


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    request = response.request
    raise StackError(
        f"the admin API refused {request.method} {request.url.path}",
        f"{response.status_code} {response.text[:300]}",
        "correct the entry it names (tallygate.yaml, or the state folder of an older version)",
    )

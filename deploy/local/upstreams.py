"""The backends a start is given with `--backend ID=URL`, and the models they say they serve.

A backend that is away costs its models, with a warning; it never stops the start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from deploy.local.problem import StackError

DISCOVERY_DEADLINE_S = 10.0
ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class Upstream:
    """A model server. `url` is what OPENAI_BASE_URL would be; `key_variable` may not be set."""

    id: str
    url: str

    @property
    def key_variable(self) -> str:
        """The environment variable that holds this backend's API key."""
        return f"BACKEND_{self.id.upper().replace('-', '_')}_API_KEY"


@dataclass(frozen=True)
class Unreachable:
    """A backend whose models could not be listed, and why."""

    upstream: Upstream
    why: str


def parse_upstream(text: str) -> Upstream:
    """Read `ID=URL`; `/v1` is added to a bare host. Raises StackError if it is neither."""
    upstream_id, separator, address = text.partition("=")
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if not separator or not ID_PATTERN.fullmatch(upstream_id):
        raise _unreadable(text, "the part before = must be an id of a-z, 0-9 and -")
    if url.scheme not in ("http", "https") or not url.host:
        raise _unreadable(text, "the part after = must be an http:// or https:// address")
    bare = url.path in ("", "/")
    return Upstream(upstream_id, str(url.copy_with(path="/v1")) if bare else address.rstrip("/"))


async def discover_models(
    upstream: Upstream, environment: Mapping[str, str]
) -> tuple[str, ...] | Unreachable:
    """The ids `GET /models` lists, in the backend's order."""
    key = environment.get(upstream.key_variable)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(timeout=DISCOVERY_DEADLINE_S, headers=headers) as client:
            response = await client.get(f"{upstream.url}/models")
            response.raise_for_status()
            return tuple(str(model["id"]) for model in response.json()["data"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return Unreachable(upstream, f"{type(error).__name__}: {error}")


def _unreadable(text: str, why: str) -> StackError:
    return StackError(
        f"--backend {text} cannot be understood", why, "write --backend my-gpu=http://host:8000/v1"
    )

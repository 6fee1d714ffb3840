"""The backends a start is given by option or environment, and the models they say they serve.

A backend that is away costs its models, with a warning; it never stops the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import httpx

from deploy.embedded.problem import StackError
from schemas.backend_url import url_problem

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


def read_upstreams(options: Iterable[str], endpoints: str) -> tuple[Upstream, ...]:
    """The backends of `--backend ID=URL` options and of `BACKEND_ENDPOINTS=id1:url1,id2:url2`.

    Naming one twice is fine while the address is the same. Raises StackError with a line for every
    one that cannot be understood or that contradicts another.
    """
    named = [(f"--backend {text}", *text.partition("=")[::2]) for text in options]
    listed = [text.strip() for text in endpoints.split(",") if text.strip()]
    named += [(f"BACKEND_ENDPOINTS {text}", *text.partition(":")[::2]) for text in listed]
    upstreams: dict[str, Upstream] = {}
    problems: list[str] = []
    for where, upstream_id, address in named:
        found = _upstream(upstream_id, address)
        if isinstance(found, str):
            problems.append(f"{where}: {found}")
        elif upstreams.setdefault(found.id, found) != found:
            problems.append(f"{where}: {found.id} is {upstreams[found.id].url} already")
    if problems:
        raise StackError(
            "the backends cannot be understood",
            "\n       ".join(problems),
            "write --backend my-gpu=http://host:8000/v1, or my-gpu:http://host:8000/v1 in the list",
        )
    return tuple(upstreams.values())


async def discover_models(
    upstream: Upstream, environment: Mapping[str, str]
) -> tuple[str, ...] | Unreachable:
    """The ids `GET /models` lists, in the backend's order."""
    key = environment.get(upstream.key_variable, "").strip()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        # No proxy from the environment: the dispatcher uses none, and the key is the backend's only.
        async with httpx.AsyncClient(
            timeout=DISCOVERY_DEADLINE_S, headers=headers, trust_env=False
        ) as client:
            response = await client.get(f"{upstream.url}/models")
            response.raise_for_status()
            return tuple(str(model["id"]) for model in response.json()["data"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return Unreachable(upstream, f"{type(error).__name__}: {error}")


def _upstream(upstream_id: str, address: str) -> Upstream | str:
    """The backend, `/v1` added to a bare host; or what is wrong."""
    if not ID_PATTERN.fullmatch(upstream_id):
        return "its id must be of a-z, 0-9 and -"
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        return "it has no http:// or https:// address"
    whole = str(url.copy_with(path="/v1")) if url.path in ("", "/") else address.rstrip("/")
    return url_problem(address) or Upstream(upstream_id, whole)

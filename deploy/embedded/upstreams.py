"""The backends a start is given by option or environment, and the models they say they serve.

A backend that is away costs its models, with a warning; it never stops the start.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import httpx
import msgspec

from deploy.embedded.model_list import ModelList, naming, read_models
from deploy.embedded.problem import StackError
from schemas.backend_url import operation_url, url_problem
from schemas.printable import one_line
from schemas.runtime.process.secret_files import FILE, read_value

DISCOVERY_DEADLINE_S = 10.0
LIST_BYTES_MAX = 8 * 1024 * 1024
UNNAMED_SHOWN = 20
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
) -> ModelList | Unreachable:
    """What `GET /models` lists. Whatever a backend is or sends, it costs its own models at most."""
    try:
        key = (read_value(environment, upstream.key_variable) or "").strip()
    except ValueError as error:
        return Unreachable(upstream, f"{upstream.key_variable}{FILE}: {error}")
    headers = {"accept-encoding": "identity"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    url, body = operation_url(upstream.url, "models"), bytearray()
    try:
        # No proxy from the environment: the dispatcher uses none, and the key is the backend's only.
        async with (
            asyncio.timeout(DISCOVERY_DEADLINE_S),
            httpx.AsyncClient(timeout=DISCOVERY_DEADLINE_S, trust_env=False) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            if not response.is_success:
                return Unreachable(upstream, f"status {response.status_code}")
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > LIST_BYTES_MAX:
                    return Unreachable(upstream, f"a list larger than {LIST_BYTES_MAX} bytes")
    except (httpx.HTTPError, TimeoutError, ValueError) as error:
        return Unreachable(upstream, f"{type(error).__name__}: {error}".removesuffix(": "))
    try:
        listed = read_models(msgspec.json.decode(bytes(body)))
    except (ValueError, RecursionError):
        return Unreachable(upstream, "no JSON")
    return Unreachable(upstream, "no list of models") if listed is None else listed


def models_told(upstream: Upstream, listed: ModelList | Unreachable) -> Iterator[str]:
    """What is told of a backend's models: which are served, and how to add the others."""
    if isinstance(listed, Unreachable):
        how = f"tallygate models set NAME --backend {upstream.id}"
        yield f"{upstream.url} lists no models ({one_line(listed.why)}); add them: {how}"
        return
    yield f"{upstream.url} serves {', '.join(listed.models) or 'no model that clients can name'}"
    for name in listed.unnamed[:UNNAMED_SHOWN]:
        yield f"one model is not served, since its name cannot be one here: {naming(upstream.id, name)}"
    if (more := len(listed.unnamed) - UNNAMED_SHOWN) > 0:
        yield f"{more} more models are not served for the same reason"


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

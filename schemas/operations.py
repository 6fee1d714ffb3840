"""What the gateway can do for a client: the only list of it, one row for each operation. Pure.

Ingress binds each name to how a body is parsed and its answer is formatted (``ingress.apis.bindings``), the
dispatcher to how it is asked of a backend, read and counted (``dispatcher.operations.bindings``). Routes, surfaces
and upstream paths follow from the row; nothing else names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

__all__ = [
    "INFERENCE",
    "JOBS",
    "MESSAGES",
    "OPERATIONS",
    "KeyScope",
    "Operation",
    "Surface",
    "UnitBounds",
    "UpstreamProtocol",
]

Surface: TypeAlias = Literal["openai", "anthropic", "native"]
"""A family of public routes that share their errors and forms."""
UpstreamProtocol: TypeAlias = Literal["openai"]
"""What a backend speaks."""
KeyScope: TypeAlias = Literal["inference", "jobs", "models:read", "usage:read"]
"""What a key may be limited to: asking models and having the answer, jobs (submitting, listing, reading, cancelling),
reading which models there are, and what its whole organization used."""
UnitBounds: TypeAlias = Literal["input_and_output", "input"]
"""What bounds the units of a request; one bounded by its input makes no output tokens."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the gateway does for a client."""

    name: str
    """The ``route`` of its events and usage lines, the ``operation`` of metrics; it stays as long as a log holds it."""
    surface: Surface
    path: str
    """Where clients post it."""
    upstream_paths: Mapping[UpstreamProtocol, str]
    """Where backends take it, below their URL, by what they speak."""
    streams: bool
    """Whether its answer may come as a stream."""
    bounded_by: UnitBounds
    scope: KeyScope
    """What a key of limited scopes needs for it."""
    keeps_result: bool
    """Whether its result is always kept, because its client is answered at once and fetches it later."""


_CHAT_UPSTREAM: Final[Mapping[UpstreamProtocol, str]] = {"openai": "chat/completions"}

JOBS: Final = Operation(
    name="jobs",
    surface="native",
    path="/v1/jobs",
    upstream_paths=_CHAT_UPSTREAM,
    streams=False,
    bounded_by="input_and_output",
    scope="jobs",
    keeps_result=True,
)

MESSAGES: Final = Operation(
    name="messages",
    surface="anthropic",
    path="/v1/messages",
    upstream_paths=_CHAT_UPSTREAM,
    streams=True,
    bounded_by="input_and_output",
    scope="inference",
    keeps_result=False,
)

INFERENCE: Final = Operation(
    name="inference",
    surface="native",
    path="/v1/inference",
    upstream_paths=_CHAT_UPSTREAM,
    streams=True,
    bounded_by="input_and_output",
    scope="inference",
    keeps_result=False,
)

_ROWS: Final = (
    Operation(
        name="chat.completions",
        surface="openai",
        path="/v1/chat/completions",
        upstream_paths=_CHAT_UPSTREAM,
        streams=True,
        bounded_by="input_and_output",
        scope="inference",
        keeps_result=False,
    ),
    Operation(
        name="completions",
        surface="openai",
        path="/v1/completions",
        upstream_paths={"openai": "completions"},
        streams=True,
        bounded_by="input_and_output",
        scope="inference",
        keeps_result=False,
    ),
    Operation(
        name="embeddings",
        surface="openai",
        path="/v1/embeddings",
        upstream_paths={"openai": "embeddings"},
        streams=False,
        bounded_by="input",
        scope="inference",
        keeps_result=False,
    ),
    MESSAGES,
    INFERENCE,
    JOBS,
)

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType({row.name: row for row in _ROWS})

"""A route as the OpenAPI document tells it: what it takes, what it answers, and which errors it may end with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from schemas.errors import ErrorCode

__all__ = [
    "JSON",
    "Answer",
    "Named",
    "Parameter",
    "RouteContract",
    "Surface",
    "header",
    "in_path",
    "query",
]

JSON: Final = "application/json"
Surface: TypeAlias = Literal["native", "openai", "anthropic", "admin"]
"""Decides how errors are written."""


@dataclass(frozen=True, slots=True)
class Named:
    """A schema that no class of the code stands for, under its name among the components."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What stands behind a status; without a shape the body is not described."""

    meaning: str
    shape: Any = None
    """A class of the code, or a ``Named``."""
    media: tuple[str, ...] = (JSON,)
    """Content types; the shape is of the first."""
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a request, beside its body."""

    name: str
    place: Literal["query", "header", "path"]
    meaning: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


def query(name: str, meaning: str, **schema: Any) -> Parameter:
    """A parameter behind the question mark; a text unless its schema says otherwise."""
    return Parameter(name, "query", meaning, schema or {"type": "string"})


def header(name: str, meaning: str, **schema: Any) -> Parameter:
    """A header."""
    return Parameter(name, "header", meaning, schema or {"type": "string"})


def in_path(name: str, meaning: str, **schema: Any) -> Parameter:
    """A part of the path."""
    return Parameter(name, "path", meaning, schema or {"type": "string"})


@dataclass(frozen=True, slots=True)
class RouteContract:
    """One method of one path."""

    name: str
    """Its id among all operations."""
    surface: Surface
    method: str
    path: str
    summary: str
    answers: Mapping[int, Answer]
    errors: frozenset[ErrorCode]
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    """A class of the code, a ``Named``, or a tuple of which one is sent."""
    body_media: str = JSON
    is_body_required: bool = True
    is_open: bool = False
    """Whether anybody may ask."""
    relays_refusals: bool = False
    """Whether a backend's refusal keeps its own status, whatever 4xx it is."""
    also_spoken: tuple[Surface, ...] = ()
    """Other surfaces in whose terms it answers clients that ask so."""

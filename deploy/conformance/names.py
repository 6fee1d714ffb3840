"""The names that a backend and its models get here, where their own cannot be ids. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from schemas.entities import EntityId

__all__ = ["backend_id", "is_id", "model_id"]

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9._:/@-]+")
_NOT_FIRST = re.compile(r"^[^A-Za-z0-9]+")
_CHARS_MAX = 128


def is_id(name: str) -> bool:
    """Whether an entity may be called so."""
    try:
        msgspec.convert(name, EntityId)
    except msgspec.ValidationError:
        return False
    return True


def model_id(upstream_name: str) -> str:
    """The backend's name of the model, or the nearest one that may be an id: ``/models/llama`` is ``models/llama``."""
    nearest = _NOT_FIRST.sub("", _NOT_IN_IDS.sub("-", upstream_name))[:_CHARS_MAX]
    return nearest or "model"


def backend_id(url: str) -> str:
    """A name made of host and port, of the characters that ``tallygate up --backend`` takes."""
    parts = urlsplit(url)
    text = f"{parts.hostname or ''}-{parts.port or ''}".lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")[:63] or "backend"

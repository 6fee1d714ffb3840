"""Reads what a backend lists as its models, in whatever form it lists them, and tells how to name what has no name.

Pure. Forms: OpenAI's ``{"data": [{"id"}]}``, Ollama's ``{"models": [{"name"}]}``, a bare array of either or of texts
(text-generation-webui, older llama.cpp servers and proxies). Sources: THUDM/LongBench#102, vllm-project/vllm#15439,
gpustack/gpustack#3773, https://docs.ollama.com/api/tags.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from deploy.conformance.names import is_id, model_id
from schemas.entities import Target

__all__ = ["MODELS_MAX", "ModelList", "naming", "read_models"]

MODELS_MAX: Final = 1_000
"""Taken of one list."""
_NAMES: Final = ("id", "name", "model")


@dataclass(frozen=True)
class ModelList:
    """The models that a backend lists, in its order."""

    models: tuple[str, ...] = ()
    """What clients can ask for as it is."""
    unnamed: tuple[str, ...] = ()
    """What needs another name here."""


def read_models(document: Any) -> ModelList | None:
    """The models of a decoded list; ``None`` when it is none in any form."""
    listed = document
    if isinstance(document, dict):
        listed = next((document[name] for name in ("data", "models") if name in document), None)
    if not isinstance(listed, list):
        return None
    names = list(dict.fromkeys(_names(listed)))[:MODELS_MAX]
    return ModelList(
        tuple(name for name in names if is_id(name)),
        tuple(name for name in names if not is_id(name)),
    )


def naming(backend: str, name: str) -> str:
    """The command that adds a model whose name cannot be one here; or why none can."""
    try:
        msgspec.convert({"backend": backend, "upstream_model": name}, Target)
    except msgspec.ValidationError:
        return "a name of too many or of invisible characters, which cannot be sent"
    words = ["tallygate", "models", "set", model_id(name), "--backend", backend]
    return shlex.join([*words, f"--upstream-model={name}"])


def _names(listed: list[Any]) -> Iterator[str]:
    for each in listed:
        said = each
        if isinstance(each, dict):
            said = next((each[name] for name in _NAMES if each.get(name)), None)
        if isinstance(said, str) and said:
            yield said

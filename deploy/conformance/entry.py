"""The configuration of a backend and its model, from what the conformance kit found. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from deploy.conformance.judging import Finding, Word
from deploy.conformance.names import model_id
from deploy.conformance.questions import LIMIT_FIELDS, LimitField

__all__ = ["Entry", "entry_of", "limit_field"]

_KEY_VARIABLE: Final = re.compile(r"BACKEND_[A-Za-z0-9_]{1,128}_API_KEY")


@dataclass(frozen=True)
class Entry:
    """What to write: the backend, and the model that routes to it; ``None`` where no model answered."""

    backend: Mapping[str, Any]
    model_name: str | None
    model: Mapping[str, Any] | None
    notes: tuple[str, ...]
    """What the entry cannot say, for people."""


def limit_field(findings: Iterable[Finding]) -> LimitField | None:
    """The field that bounds an answer: one that is kept before one that is merely taken, the older first."""
    says = {finding.about: finding.says for finding in findings}
    for word in ("yes", "unknown"):
        for name in LIMIT_FIELDS:
            if says.get(name) == word:
                return name
    return None


def entry_of(
    url: str,
    backend: str,
    key_env: str | None,
    model: str | None,
    findings: Iterable[Finding],
    context_tokens: int | None = None,
) -> Entry:
    """The entries; what a backend does as most do is left to the defaults."""
    says = {finding.about: finding.says for finding in findings}
    entity: dict[str, Any] = {"url": url}
    notes = []
    if says.get("stream_options") == "refused":
        entity["stream_options"] = False
    if key_env is not None and _KEY_VARIABLE.fullmatch(key_env):
        entity["api_key_env"] = key_env
    elif key_env is not None:
        notes.append(
            f"the dispatcher reads keys from variables like BACKEND_NAME_API_KEY only, not from {key_env}"
        )
    if says.get("chat") != "yes" or model is None:
        return Entry(entity, None, None, (*notes, "no model answered, so none is written"))
    route: dict[str, Any] = {"backend": backend}
    name = model_id(model)
    if name != model:
        route["upstream_model"] = model
    entry: dict[str, Any] = {"backends": [route]}
    if context_tokens is not None:
        entry["context_window_tokens"] = context_tokens
    match _only_limit_field(says):
        case "none" if context_tokens is None:
            notes.append("nothing bounds its answers: --context-tokens says what may be held")
        case str() as field:
            entry["output_limit_field"] = field
    notes.append("it has no price: a budget in USD refuses the model until it has one")
    return Entry(entity, name, entry, tuple(notes))


def _only_limit_field(says: Mapping[str, Word]) -> LimitField | Literal["none"] | None:
    """What the limit must be called, where not every name will do."""
    useless = {name for name in LIMIT_FIELDS if says.get(name) in {"refused", "ignored"}}
    if useless == {*LIMIT_FIELDS}:
        return "none"
    kept = [name for name in LIMIT_FIELDS if says.get(name) == "yes"]
    return kept[0] if useless and kept else None

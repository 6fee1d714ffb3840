"""The configuration of a backend and its model, from what the conformance kit found. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from deploy.conformance.judging import Finding
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
    url: str, backend: str, key_env: str | None, model: str | None, findings: Iterable[Finding]
) -> Entry:
    """The entries; what a backend does as most do is left to the defaults."""
    found = {finding.about: finding for finding in findings}
    answers = "chat" in found and found["chat"].says == "yes"
    entity: dict[str, Any] = {"url": url}
    notes = []
    if key_env is not None and _KEY_VARIABLE.fullmatch(key_env):
        entity["api_key_env"] = key_env
    elif key_env is not None:
        notes.append(
            f"the dispatcher reads keys from variables like BACKEND_NAME_API_KEY only, not from {key_env}"
        )
    if not answers or model is None:
        return Entry(entity, None, None, (*notes, "no model answered, so none is written"))
    route: dict[str, Any] = {"backend": backend}
    name = model_id(model)
    if name != model:
        route["upstream_model"] = model
    notes.append(
        "it has no price: where a budget in USD applies, the model is refused until it has one"
    )
    return Entry(entity, name, {"backends": [route]}, tuple(notes))

"""Judges answers by the published OpenAPI document: status, content type, and the body, which may have no field that is not told."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from schemas.runtime.process.published import FOLDER
from tests.support.json_schema import is_valid

_NOWHERE: Final = frozenset({204, 400, 401, 403, 404, 405, 408, 415, 431, 500, 503})
"""What may be answered where the document has no route: refusals, and to browsers that ask whether they may."""
_JSON: Final = re.compile(r"application/([a-z.-]+\+)?json")


def read_document() -> dict[str, Any]:
    """The document as it is served."""
    document: dict[str, Any] = json.loads((FOLDER / "openapi.json").read_text(encoding="utf-8"))
    return document


def closed(schema: Any) -> Any:
    """The schema, whose objects may have no other fields than those that are told, unless it says that they may."""
    if isinstance(schema, list):
        return list(map(closed, schema))
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


@dataclass(frozen=True, slots=True)
class _Path:
    pattern: re.Pattern[str]
    item: Mapping[str, Any]


class ApiContract:
    """The document, ready to judge by."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = closed(document)
        self._exact = dict(self._document["paths"])
        # The longest first: an id may contain slashes.
        told = sorted((path for path in self._exact if "{" in path), key=_rank)
        self._patterns = [_Path(_pattern(path), self._exact[path]) for path in told]

    def problem(
        self, method: str, path: str, status: int, content_type: str, body: bytes | None
    ) -> str | None:
        """What about an answer is not as the document says; a body of ``None`` is not looked at."""
        operation = self._operation(method.lower(), path)
        if operation is None:
            return None if status in _NOWHERE else f"{status} where the document has no route"
        told = self._response(operation, status)
        if told is None:
            return f"the document knows no {status}; it has {', '.join(operation['responses'])}"
        return self._problem_of_body(told, content_type, None if method == "HEAD" else body)

    def _operation(self, method: str, path: str) -> Mapping[str, Any] | None:
        method = "get" if method == "head" else method
        items = [self._exact[path]] if path in self._exact else []
        items += [one.item for one in self._patterns if one.pattern.fullmatch(path)]
        return next((item[method] for item in items if method in item), None)

    def _response(self, operation: Mapping[str, Any], status: int) -> Mapping[str, Any] | None:
        responses = operation["responses"]
        told: Mapping[str, Any] | None = responses.get(str(status)) or responses.get(
            f"{status // 100}XX"
        )
        if told is not None and "$ref" in told:
            told = self._document["components"]["responses"][told["$ref"].rpartition("/")[2]]
        return told

    def _is_open(self, schema: Mapping[str, Any]) -> bool:
        name = schema.get("$ref", "").rpartition("/")[2]
        return bool(self._document["components"]["schemas"].get(name) == _OPEN)

    def _problem_of_body(
        self, told: Mapping[str, Any], content_type: str, body: bytes | None
    ) -> str | None:
        contents, media = told.get("content", {}), content_type.partition(";")[0].strip()
        if not contents:
            return None if not body else "a body where the document has none"
        if media not in contents:
            return f"content type {media!r}; the document has {', '.join(contents)}"
        schema = contents[media].get("schema")
        if schema is None or body is None or not _JSON.fullmatch(media) or self._is_open(schema):
            return None
        try:
            value = json.loads(body)
        except ValueError as error:
            return f"no JSON: {error}"
        return None if is_valid(value, schema, self._document) else f"no {schema}"


_OPEN: Final = {"type": "object", "additionalProperties": True}
"""What a backend answered, which is relayed byte for byte whatever it is."""


def _rank(path: str) -> tuple[int, int]:
    """Behind others: paths of fewer parts, and of these the ones with fewer fixed parts."""
    parts = path.split("/")
    return -len(parts), sum(part.startswith("{") for part in parts)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\})", path)
    return re.compile(
        "".join(".+" if part.startswith("{") else re.escape(part) for part in parts), re.DOTALL
    )


@functools.cache
def api_contract() -> ApiContract:
    """The contract that is published with this version."""
    return ApiContract(read_document())

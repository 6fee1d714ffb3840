"""What all operations of the OpenAI protocol have in common: the model's name and the dialect of a body, usage and
errors in an answer. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from dispatcher.operations.dialect import AS_IT_IS, Dialect
from dispatcher.operations.usage.reading import told
from dispatcher.upstream.tokenizer import count_text
from dispatcher.work import Choice
from schemas.pricing.counts import TokenCounts

ABSENT: Final = msgspec.Raw(b"null")
"""Where a field does not stand."""

_NULL: Final = memoryview(ABSENT)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Only the name of the model and what the dialect calls differently is ours to change; what else a body holds is
not even read."""


def encode(payload: bytes, choice: Choice, dialect: Dialect = AS_IT_IS) -> bytes:
    """The body in the backend's dialect, and with its own name of the model where it has one."""
    if choice.upstream_model is None and dialect == AS_IT_IS:
        return payload
    body = _FIELDS.decode(payload)
    if choice.upstream_model is not None:
        body["model"] = msgspec.Raw(msgspec.json.encode(choice.upstream_model))
    dialect.apply(body)
    return msgspec.json.encode(body)


def names_in(body: bytes) -> Collection[str]:
    """The fields of a body of ours."""
    return _FIELDS.decode(body).keys()


def is_there(raw: msgspec.Raw) -> bool:
    """Whether a field stands in an answer, and not as null."""
    return raw is not ABSENT and memoryview(raw) != _NULL


def counts(sent: msgspec.Raw, *, has_output: bool = True) -> TokenCounts | None:
    """The backend's counts; an answer is not lost because its counts are garbled."""
    return told(sent, has_output=has_output).counts if is_there(sent) else None


def given_tokens(given: Any) -> int:
    """Tokens of a text, of a token that is given as a number, or of a list of either, however nested."""
    if isinstance(given, str):
        return count_text(given)
    return 1 if isinstance(given, int) else sum(map(given_tokens, given))

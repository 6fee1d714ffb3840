"""What all operations of the OpenAI protocol have in common: the model's name and the dialect of a body, usage and
errors in an answer. Pure.

Every way in which an answer can be unreadable is one exception, ``UpstreamGarbage``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, TypeVar

import msgspec

from dispatcher.operations.dialect import AS_IT_IS, Dialect
from dispatcher.operations.usage.reading import told
from dispatcher.upstream.event_splitter import UpstreamGarbage
from dispatcher.work import Choice
from schemas.pricing.counts import TokenCounts

ABSENT: Final = msgspec.Raw(b"null")
"""Where a field does not stand."""

_NULL: Final = memoryview(ABSENT)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Only the name of the model and what the dialect calls differently is ours to change; what else a body holds is
not even read."""
_T = TypeVar("_T")


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


def read_json(decoder: msgspec.json.Decoder[_T], sent: bytes, objects_max: int) -> tuple[_T, bytes]:
    """The JSON object, and its bytes as valid UTF-8. Raises ``UpstreamGarbage`` for anything else."""
    if len(sent) > objects_max and sent.count(b"{") > objects_max:
        raise UpstreamGarbage(f"more than {objects_max} objects")
    if not sent.isascii():
        sent = _as_utf8(sent)
    try:
        return decoder.decode(sent), sent
    except (ValueError, RecursionError) as error:
        # Of msgspec, of UTF-8, of the stack: their texts may quote the answer, their kinds do not.
        raise UpstreamGarbage(f"no JSON of this shape ({type(error).__name__})") from error


def _as_utf8(sent: bytes) -> bytes:
    """What is only relayed must not fail a call: an odd byte becomes U+FFFD."""
    try:
        sent.decode()
    except UnicodeDecodeError:
        return sent.decode(errors="replace").encode()
    return sent


def is_there(raw: msgspec.Raw) -> bool:
    """Whether a field stands in an answer, and not as null."""
    return raw is not ABSENT and memoryview(raw) != _NULL


def counts(sent: msgspec.Raw, *, has_output: bool = True) -> TokenCounts | None:
    """The backend's counts; an answer is not lost because its counts are garbled."""
    return told(sent, has_output=has_output).counts if is_there(sent) else None

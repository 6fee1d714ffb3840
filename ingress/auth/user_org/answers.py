"""Reads what the user-org service answers: a boundary that lets no odd value in. Pure.

The contract with the user-org service: what it is asked, and what is read of its answers. It is published as OpenAPI in
``docs/reference``. Fields that are unknown here are ignored, so that the service may grow; everything else that is not
as written there is no answer at all.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from ingress.auth.http_answer import Answer
from schemas.entities import EntityId, ModelNames, Scopes

__all__ = [
    "ANSWER_BYTES_MAX",
    "CREDENTIAL",
    "ISSUER",
    "PATH",
    "SUBJECT",
    "Found",
    "Known",
    "Odd",
    "Reading",
    "Unchanged",
    "Unknown",
    "read_answer",
]

PATH: Final = "/v1/caller"
CREDENTIAL: Final = "x-caller-credential"
"""Header with the credential that is asked about; or the two that follow."""
ISSUER: Final = "x-caller-issuer"
SUBJECT: Final = "x-caller-subject"
"""Percent-encoded, since a subject may be any text."""
ANSWER_BYTES_MAX: Final = 64 * 1024
_ETAG_CHARS_MAX: Final = 256
_CAUSE_CHARS_MAX: Final = 200


class Known(msgspec.Struct, frozen=True):
    """Where a caller belongs, as the service says it."""

    org: EntityId
    """Organization that pays; it must be configured in the gateway."""
    project: EntityId | None = None
    """Project of that organization."""
    user: EntityId | None = None
    """What the user is called in limits and usage; a credential without one is a program's. Not given for a subject:
    the subject itself."""
    key: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")] | None = None
    """What stands for the credential in events and usage lines, behind `user-org:`."""
    models: ModelNames | None = None
    """Models that are open to the caller; all when it is null."""
    scopes: Scopes | None = None
    """What the caller may do, as scopes of keys say it; everything when it is null."""


class Found(msgspec.Struct, frozen=True):
    """An answer that tells whose the caller is."""

    known: Known
    etag: str | None
    size_bytes: int


class Unknown(msgspec.Struct, frozen=True):
    """The service knows nobody of that kind."""


class Unchanged(msgspec.Struct, frozen=True):
    """What it said last still holds."""


class Odd(msgspec.Struct, frozen=True):
    """No answer, and why. ``is_down`` where the service as a whole seems not to work."""

    why: str
    is_down: bool


Reading: TypeAlias = Found | Unknown | Unchanged | Odd


def read_answer(answer: Answer | str, *, has_etag: bool) -> Reading:
    """What the service said; ``has_etag`` where it was asked whether an earlier answer still holds."""
    if isinstance(answer, str):
        return Odd(answer, is_down=True)
    match answer.status:
        case 200:
            return _found(answer)
        case 304 if has_etag:
            return Unchanged()
        case 404:
            return Unknown()
        case status:
            return Odd(f"its answer has the status {status}", is_down=True)


def _found(answer: Answer) -> Found | Odd:
    try:
        known = msgspec.json.decode(answer.body, type=Known)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Odd(f"its answer: {error}"[:_CAUSE_CHARS_MAX], is_down=False)
    etag = answer.etag
    if etag is not None and not (
        etag.isascii() and etag.isprintable() and len(etag) <= _ETAG_CHARS_MAX
    ):
        etag = None
    return Found(known, etag, len(answer.body))

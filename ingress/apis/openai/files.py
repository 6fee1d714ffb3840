"""Files as OpenAI tells them, and what an upload says beside its content. Pure.

Source: OpenAI's OpenAPI document, ``/v1/files``; what its SDK sends of nested fields is ``expires_after[seconds]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypedDict

from ingress.apis.parsed_request import invalid
from ingress.files.names import StoredFile
from ingress.http.refusals import Refusal

__all__ = [
    "BATCH_OUTPUT",
    "FileDeleted",
    "FileList",
    "FileObject",
    "UploadTerms",
    "file_object",
    "read_terms",
]

BATCH: Final = "batch"
BATCH_OUTPUT: Final = "batch_output"
"""What the gateway itself writes: results and errors of batches."""
_PURPOSES: Final = (BATCH,)
_EXPIRES_S: Final = (3_600, 2_592_000)
_DAY_S: Final = 86_400
KEPT_S: Final = 30 * _DAY_S
"""How long a file is kept whose client says nothing, as OpenAI keeps those of batches."""
_DIGITS_MAX: Final = 8


class FileObject(TypedDict):
    """OpenAI's object of a file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"]


class FileList(TypedDict):
    """A page of files, newest first unless asked otherwise."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(TypedDict):
    """What is left of a file that was deleted."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class UploadTerms(NamedTuple):
    """What a client says of a file beside its content."""

    purpose: str
    kept_s: int
    """From its creation on."""


def read_terms(fields: Mapping[str, str]) -> UploadTerms | Refusal:
    """The fields of an upload, by their names; others mean nothing here."""
    purpose = fields.get("purpose")
    if purpose not in _PURPOSES:
        return invalid("purpose", f"must be one of: {', '.join(_PURPOSES)}")
    anchor = fields.get("expires_after[anchor]", "created_at")
    if anchor != "created_at":
        return invalid("expires_after[anchor]", "must be created_at")
    said = fields.get("expires_after[seconds]")
    if said is None:
        return UploadTerms(purpose, KEPT_S)
    least, most = _EXPIRES_S
    is_number = said.isascii() and said.isdigit() and len(said) <= _DIGITS_MAX
    if not is_number or not least <= int(said) <= most:
        return invalid("expires_after[seconds]", f"must be an integer from {least} to {most}")
    return UploadTerms(purpose, int(said))


def file_object(file: StoredFile) -> FileObject:
    """The file as OpenAI tells it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at_s,
        "expires_at": file.expires_at_s,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }

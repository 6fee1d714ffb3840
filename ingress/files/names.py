"""Decides where a file stands in the store, and what its name there tells. Pure.

A file is two objects: its content, and an empty one whose name tells everything else of it. That one is written last, so
a file is there as a whole or not at all, and one listing of an organization tells all its files without reading any.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from schemas.ids import uuid7, uuid7_time_ms

__all__ = [
    "FILENAME_BYTES_MAX",
    "StoredFile",
    "content_path",
    "contents_prefix",
    "description_path",
    "descriptions_prefix",
    "file_id",
    "is_file_id",
    "made_ms",
    "newest_first",
    "org_prefix",
    "read_description",
]

FILENAME_BYTES_MAX: Final = 255
_PREFIX: Final = "file-"
_ID: Final = re.compile(r"file-[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")
_FILES: Final = "files"
_CONTENTS: Final = "contents"
_PART_CHARS: Final = 200
"""A file system takes 255 bytes between two slashes."""


class StoredFile(msgspec.Struct, frozen=True, array_like=True):
    """A file as its name in the store tells it."""

    id: str
    bytes: int
    filename: str
    purpose: str
    expires_at_s: int | None = None
    """Unix seconds; ``None`` for one that stays until it is deleted."""
    owner: str | None = None
    """Whose own file it is; ``None`` for one of a program, which all programs of its organization share."""

    @property
    def created_at_s(self) -> int:
        """Unix seconds, from the id."""
        return made_ms(self.id) // 1_000

    def is_open_to(self, owner: str | None, now_ms: int) -> bool:
        """Whether a caller may see it: programs see all of their organization, users only their own."""
        is_over = self.expires_at_s is not None and now_ms >= 1_000 * self.expires_at_s
        return not is_over and (owner is None or owner == self.owner)


def file_id(now_ms: int, random_bytes: bytes) -> str:
    """A new id; ids sort by the time they were made."""
    return _PREFIX + uuid7(now_ms, random_bytes).replace("-", "")


def made_ms(file: str) -> int:
    """When an id was made, in Unix milliseconds. Raises ``ValueError`` for what is no id."""
    if _ID.fullmatch(file) is None:
        raise ValueError("no id of a file")
    return uuid7_time_ms(file.removeprefix(_PREFIX))


def is_file_id(text: str) -> bool:
    """Whether it is an id exactly as they are made, so that it can stand in a path."""
    return _ID.fullmatch(text) is not None


def org_prefix(org: str) -> str:
    """What all objects of an organization stand below, whatever characters its id has."""
    return quote(org, safe="").replace(".", "%2E")


def content_path(org: str, file: str) -> str:
    """Where the content of a file stands."""
    return f"{org_prefix(org)}/{_CONTENTS}/{file}"


def descriptions_prefix(org: str, file: str | None = None) -> str:
    """What the descriptions of an organization's files stand below, or that of one file."""
    below = f"{org_prefix(org)}/{_FILES}"
    return below if file is None else f"{below}/{file}"


def contents_prefix(org: str) -> str:
    """What the contents of an organization's files stand below."""
    return f"{org_prefix(org)}/{_CONTENTS}"


def description_path(org: str, file: StoredFile) -> str:
    """The path that describes a file."""
    told = base64.urlsafe_b64encode(msgspec.json.encode(file)).decode().rstrip("=")
    parts = (told[at : at + _PART_CHARS] for at in range(0, len(told), _PART_CHARS))
    return "/".join((descriptions_prefix(org, file.id), *parts))


def read_description(org: str, path: str) -> StoredFile | None:
    """The file that a path describes; ``None`` when it describes none, which nobody here has written."""
    parts: Sequence[str] = path.removeprefix(descriptions_prefix(org) + "/").split("/")
    told = "".join(parts[1:])
    try:
        encoded = base64.urlsafe_b64decode(told + "=" * (-len(told) % 4))
        file = msgspec.json.decode(encoded, type=StoredFile)
    except ValueError:
        return None
    return file if file.id == parts[0] and is_file_id(file.id) else None


def newest_first(files: Iterable[StoredFile]) -> list[StoredFile]:
    """Files in the order in which lists tell them."""
    return sorted(files, key=lambda file: file.id, reverse=True)

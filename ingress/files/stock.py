"""Files of an organization as a whole, and what goes wrong with a store of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ingress.files.names import StoredFile
from schemas.failures import Transient

__all__ = ["FileMissing", "FilesAway", "Stock"]


class FilesAway(Transient):
    """The store of files cannot be asked now."""


class FileMissing(Transient):
    """There is no such content any more."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What an organization has in the store."""

    files: tuple[StoredFile, ...]
    """Newest first."""
    sizes: dict[str, int]
    """Bytes of content by id, also of what is being uploaded."""

    @property
    def total_bytes(self) -> int:
        """Bytes of all contents."""
        return sum(self.sizes.values())

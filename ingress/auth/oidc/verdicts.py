"""Verdicts on tokens that were believed, so that who sends the same one again pays for a look-up. Pure.

A verdict holds until its token ends, and only under the key set that it was given under. Tokens are known by their
SHA-256 alone.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ingress.auth.oidc.claims import Believed
from ingress.auth.oidc.key_set import KeySet

__all__ = ["Verdicts", "digest_of"]

_VERDICTS_MAX: Final = 20_000


def digest_of(token: str) -> bytes:
    """What a token is known by."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(slots=True)
class Verdicts:
    """The newest verdicts of one issuer."""

    verdicts_max: int = _VERDICTS_MAX
    _keys: KeySet | None = None
    _known: OrderedDict[bytes, Believed] = field(default_factory=OrderedDict)

    def find(self, digest: bytes, keys: KeySet, now_s: float) -> Believed | None:
        """The verdict, while it holds."""
        if keys is not self._keys:
            self._keys = keys
            self._known.clear()
            return None
        believed = self._known.get(digest)
        if believed is None or believed.ends_at_s <= now_s:
            return None
        self._known.move_to_end(digest)
        return believed

    def note(self, digest: bytes, keys: KeySet, believed: Believed) -> None:
        """A token was judged under a key set; one that was replaced meanwhile teaches nothing."""
        if keys is not self._keys:
            return
        self._known[digest] = believed
        if len(self._known) > self.verdicts_max:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known)

"""Server-sent events as a client was told them, without what only says where each stands."""

from __future__ import annotations

import re
from typing import Final

_ID: Final = re.compile(rb"^id: .*\n", re.MULTILINE)


def without_ids(events: bytes) -> bytes:
    """The events alone."""
    return _ID.sub(b"", events)

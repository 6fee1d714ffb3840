"""Decides how long a client wants to wait: its ``Prefer`` header (RFC 7240). Pure.

A preference that is unknown or malformed is ignored, as the RFC asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_WAIT: Final = re.compile(rb'wait="?(\d{1,6})"?')


@dataclass(frozen=True, slots=True)
class Preference:
    """``respond-async``, and ``wait`` in seconds where it was given."""

    respond_async: bool = False
    wait_s: int | None = None


def preference_of(headers: Mapping[bytes, bytes]) -> Preference:
    """What the client prefers."""
    respond_async, wait_s = False, None
    for preference in headers.get(b"prefer", b"").split(b","):
        token = preference.partition(b";")[0].strip().lower()
        if token == b"respond-async":
            respond_async = True
        elif wait_s is None and (asked := _WAIT.fullmatch(token)) is not None:
            wait_s = int(asked[1])
    return Preference(respond_async, wait_s)

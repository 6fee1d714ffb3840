"""Bounds what backends say before it goes anywhere: ids, messages, hints, statuses, and the keys that we
hold for them. Pure.

Whatever is out of bounds is cut or nothing; nothing here raises for what it is given.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Final

PROVIDER_ID_CHARS_MAX: Final = 128
MESSAGE_CHARS_MAX: Final = 500
RETRY_AFTER_MAX_MS: Final = 120_000
_HEADER_CHARS_MAX: Final = 64
_SECONDS: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""Also what turns the direction of a terminal's text."""
_SECRET: Final = re.compile(r"[\x21-\x7e]{1,4096}")


def provider_id(sent: str | None) -> str | None:
    """The backend's own id of the call, at most 128 characters; ``None`` unless all are printable."""
    if not sent:
        return None
    cut = sent[:PROVIDER_ID_CHARS_MAX]
    return cut if cut.isprintable() else None


def message(sent: str | None) -> str | None:
    """A backend's words for the client: one line of at most 500 characters, fit for any terminal."""
    if not sent:
        return None
    # Replacing is paid for what is kept only: a message may be megabytes long.
    cut = sent[: 2 * MESSAGE_CHARS_MAX].encode("utf-8", "replace").decode("utf-8", "replace")
    return _CONTROLS.sub(" ", cut).strip()[:MESSAGE_CHARS_MAX] or None


def retry_after_ms(header: str | None, now_ms: int) -> int | None:
    """Milliseconds of a ``Retry-After`` in seconds (with a fraction or without) or as an HTTP date.

    At most two minutes; ``None`` for anything else, such as digits that are not ASCII.
    """
    if header is None or len(header) > _HEADER_CHARS_MAX:
        return None
    text = header.strip()
    if _SECONDS.fullmatch(text):
        return min(round(float(text) * 1000), RETRY_AFTER_MAX_MS)
    try:
        at_ms = round(parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(0, at_ms - now_ms), RETRY_AFTER_MAX_MS)


def status(sent: int) -> int | None:
    """An HTTP status of a final answer; ``None`` for what is no such thing."""
    return sent if 100 <= sent <= 599 else None  # noqa: PLR2004  # RFC 9110's range


def usable_secret(value: str) -> str | None:
    """The key without the blanks around it, as files end in them; ``None`` when no header can carry it."""
    stripped = value.strip()
    return stripped if _SECRET.fullmatch(stripped) else None

"""Bounds what backends say before it goes anywhere: ids, messages, hints, statuses, and the keys that we
hold for them. Pure.

Whatever is out of bounds is cut or nothing; nothing here raises for what it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Final

PROVIDER_ID_CHARS_MAX: Final = 128
_ID_BITS_MAX: Final = 256
MESSAGE_CHARS_MAX: Final = 500
RETRY_AFTER_MAX_MS: Final = 120_000
_HEADER_CHARS_MAX: Final = 64
_SECONDS: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""Also what turns the direction of a terminal's text."""
_SECRET: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_KEY_LIKE: Final = re.compile(
    r"\bBearer\s+\S+|\b(?:sk|gsk|pk|rk|xai|nvapi)-[\w*.-]{6,}|\bhf_\w{16,}|\bAIza[\w-]{20,}"
    r"|\beyJ[\w-]{8,}\.[\w.-]+"
)
"""Keys of common providers, also shortened, as in "Incorrect API key provided: sk-12***89"."""
_INNER_HOST: Final = re.compile(
    r"(?<![\d.])(?:10\.\d{1,3}|127\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){1,2}(?::\d{1,5})?"
    r"|\blocalhost(?::\d{1,5})?|\b[\w.-]+\.(?:svc|internal|local|cluster\.local)\b(?::\d{1,5})?"
)
"""Addresses and names that mean something on the operator's own network only."""
_HIDDEN: Final = "[hidden]"
NAME_CHARS_MAX: Final = 128


def provider_id(sent: object) -> str | None:
    """The backend's own id of the call, at most 128 characters; ``None`` unless all are printable.

    Some number their calls: the digits are the id then.
    """
    if type(sent) is int and sent.bit_length() <= _ID_BITS_MAX:
        return str(sent)
    if not isinstance(sent, str) or not sent:
        return None
    cut = sent[:PROVIDER_ID_CHARS_MAX]
    return cut if cut.isprintable() else None


def message(sent: str | None, hidden: Iterable[str] = ()) -> str | None:
    """A backend's words for the client: one line of at most 500 characters, fit for any terminal.

    Without the texts to be hidden, and without what looks like a key or an address of an inner network.
    """
    if not sent:
        return None
    # Replacing is paid for what is kept only: a message may be megabytes long.
    cut = sent[: 2 * MESSAGE_CHARS_MAX].encode("utf-8", "replace").decode("utf-8", "replace")
    for text in hidden:
        cut = cut.replace(text, _HIDDEN)
    cut = _INNER_HOST.sub(_HIDDEN, _KEY_LIKE.sub(_HIDDEN, cut))
    return _CONTROLS.sub(" ", cut).strip()[:MESSAGE_CHARS_MAX] or None


def name(sent: str | None) -> str | None:
    """A backend's name for something, such as an error's code or the field it is about; ``None`` unless it is
    printable ASCII of at most 128 characters."""
    if not sent or len(sent) > NAME_CHARS_MAX or not (sent.isascii() and sent.isprintable()):
        return None
    return message(sent)


def retry_hint_ms(seconds_or_date: str | None, milliseconds: str | None, now_ms: int) -> int | None:
    """When to come back, of ``Retry-After`` and of ``retry-after-ms``, which is more exact (Azure, OpenAI)."""
    text = (milliseconds or "").strip()
    if len(text) <= _HEADER_CHARS_MAX and _SECONDS.fullmatch(text):
        return min(round(float(text)), RETRY_AFTER_MAX_MS)
    return retry_after_ms(seconds_or_date, now_ms)


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

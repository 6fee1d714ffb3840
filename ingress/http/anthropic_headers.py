"""What answers on Anthropic's surface carry beside our own headers, made of those. Pure.

``request-id``, and the limits of requests and tokens under Anthropic's names, whose resets are times (RFC 3339) and not
durations.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from ingress.http.refusals import Headers

__all__ = ["anthropic_headers"]

_UNITS: Final = (b"requests", b"tokens")
_DURATION: Final = re.compile(
    rb"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)(?:\.(\d{1,3}))?s)?(?:(\d+)ms)?"
)
_MS_PER_S: Final = 1_000


def anthropic_headers(headers: Headers, request_id: str, now_ms: int) -> Headers:
    """What stands beside the headers of an answer that begins now."""
    said, found = dict(headers), [(b"request-id", request_id.encode())]
    for unit in _UNITS:
        reset = said.get(b"x-ratelimit-reset-" + unit)
        if reset is None:
            continue
        ends_ms = now_ms + _duration_ms(reset)
        # Whole seconds, upwards: who comes back then does not come too early.
        ends = datetime.fromtimestamp(-(-ends_ms // _MS_PER_S), UTC)
        name = b"anthropic-ratelimit-" + unit
        found += [
            (name + b"-limit", said[b"x-ratelimit-limit-" + unit]),
            (name + b"-remaining", said[b"x-ratelimit-remaining-" + unit]),
            (name + b"-reset", ends.strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
        ]
    return found


def _duration_ms(told: bytes) -> int:
    """Milliseconds of a duration as we write it (``go_duration``)."""
    parts = _DURATION.fullmatch(told)
    if parts is None:
        return 0
    hours, minutes, seconds, fraction, ms = (part or b"" for part in parts.groups())
    whole_s = (int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)
    return whole_s * _MS_PER_S + int(fraction.ljust(3, b"0") or 0) + int(ms or 0)

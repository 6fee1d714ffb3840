"""Decides what browsers are told whose page came from elsewhere. Pure.

Only configured origins are told anything, each by its own name. Cookies and the like are never allowed: keys come in
headers that the page sets itself. Source: the CORS protocol of the Fetch standard, section 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ingress.http.refusals import Headers

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'+.^_`|~-]+( *, *[A-Za-z0-9!#$%&'+.^_`|~-]+)*")
"""Header names, without the ``*`` that browsers would read as all of them."""
_KEPT_FOR_S: Final = 7_200
"""How long a browser may remember the answer; the most that Chrome takes."""
_READ: Final = (
    b"authorization, content-type, x-api-key, idempotency-key, x-request-timeout, prefer, traceparent,"
    b" x-tallygate-timestamp, x-tallygate-signature, last-event-id, x-tallygate-resumable,"
    b" x-tallygate-webhook-url"
)
"""Request headers that mean something here."""
_EXPOSED: Final = b", ".join(
    (
        b"retry-after, retry-after-ms, x-should-retry, x-request-id, location, idempotent-replayed",
        b"preference-applied, x-tallygate-backend, x-tallygate-cost-usd, x-tallygate-service-tier, ratelimit, ratelimit-policy",
        b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests",
        b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, request-id",
        b"anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining",
        b"anthropic-ratelimit-requests-reset, anthropic-ratelimit-tokens-limit",
        b"anthropic-ratelimit-tokens-remaining, anthropic-ratelimit-tokens-reset",
        b"openai-processing-ms, openai-version",
    )
)
"""Response headers that a page may read; a prefix cannot be said."""


def read_origins(listed: str) -> frozenset[bytes]:
    """Origins of a list with commas, as browsers write them. Raises ``ValueError`` for what no browser sends."""
    origins = [origin.strip() for origin in listed.split(",") if origin.strip()]
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin: write scheme://host or scheme://host:port, in lower case, without a path"
            )
    return frozenset(origin.encode() for origin in origins)


def origin_headers(origins: frozenset[bytes], headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What an answer tells the browser, whatever the answer is; nothing for a request of an unknown origin or none."""
    for name, value in headers:
        if name == b"origin":
            if value not in origins:
                break
            return [
                (b"access-control-allow-origin", value),
                (b"access-control-expose-headers", _EXPOSED),
            ]
    return []


def preflight_headers(origins: frozenset[bytes], headers: Headers) -> Headers | None:
    """What a browser is told that asks before it sends, beside ``origin_headers``; ``None`` where it is not served.

    Whatever header it wants to send may be sent: SDKs add their own, and those that mean nothing here are ignored.
    """
    said = dict(headers)
    if said.get(b"origin") not in origins or b"access-control-request-method" not in said:
        return None
    asked = said.get(b"access-control-request-headers", b"").strip()
    allowed = b"%s, %s" % (_READ, asked) if _NAMES.fullmatch(asked) else _READ
    return [
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", allowed),
        (b"access-control-max-age", b"%d" % _KEPT_FOR_S),
    ]

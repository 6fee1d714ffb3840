"""Decides what a request says: its headers, and its body as strict JSON. Pure.

A preference that is unknown or malformed is ignored, as RFC 7240 asks; the quoted form of an idempotency key (a
draft) and the bare one of common habit are the same key.

JSON is read strictly where parsers commonly differ: UTF-8, no duplicate keys, no NaN, no integers beyond 64 bits, no
lone surrogates, bounded depth. What two parsers could read differently is refused. A body of many small
values costs the parser a hundred times what a text of the same length does, so that values are counted
before anything is parsed. Source: RFC 8259, RFC 7493.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec

from ingress.http.event_ids import EventId, read_event_id
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.trace_context import read_traceparent, unsampled
from schemas.webhooks import webhook_problem

TIMEOUT_HEADER: Final = b"x-request-timeout"
DEPTH_MAX: Final = 64
SEPARATORS_MAX: Final = 100_000
"""Brackets, commas and colons of a body; parsing that many takes at most some 50 ms."""
INTEGER_MAX: Final = 2**64 - 1
INTEGER_MIN: Final = -(2**63)
"""The bounds of tool schemas that Go, Java and Rust make, and of seeds; such numbers are only relayed."""
_INTEGER_CHARS_MAX: Final = len(str(INTEGER_MAX))
_ESCAPED_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_DECIMAL: Final = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")
_DIGITS_MAX: Final = 15
"""More bytes than anybody sends, and few enough to be read in no time."""
_WAIT: Final = re.compile(rb'wait="?(\d{1,6})"?')
_BETA: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_BETAS_MAX: Final = 64
WEBHOOK_URL: Final = "X-Tallygate-Webhook-Url"
_WEBHOOK_URL: Final = WEBHOOK_URL.lower().encode()
_BARE_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_QUOTED_KEY: Final = re.compile(rb'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_ESCAPED_IN_KEY: Final = re.compile(rb'\\(["\\])')


RESUMABLE: Final = b"x-tallygate-resumable"
"""``1``: a stream is kept as that of a request with a key, and runs on when its connection breaks."""


class Preference(msgspec.Struct, frozen=True):
    """``respond-async``, and ``wait`` in seconds where it was given."""

    respond_async: bool = False
    wait_s: int | None = None


class Credentials(msgspec.Struct, frozen=True):
    """What a client shows to say who it is, and the head of its request around that."""

    secret: str
    """``X-API-Key``, which wins, or what ``Authorization: Bearer`` carries; empty where there is neither."""
    is_bearer: bool
    head: Mapping[str, Any]
    """The request's head, as ASGI tells it."""
    headers: Mapping[bytes, bytes]
    """The last one of each name."""


def credentials_of(head: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Credentials:
    """The credentials in a request's head, which are judged elsewhere."""
    secret = headers.get(b"x-api-key", b"").strip()
    if secret:
        return Credentials(secret.decode("latin-1"), False, head, headers)
    # An empty key is none: proxies send it, and clients whose variable is not set.
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    is_bearer = scheme.lower() == b"bearer"
    return Credentials(
        token.strip().decode("latin-1") if is_bearer else "", is_bearer, head, headers
    )


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


def betas_of(header: bytes) -> tuple[str, ...]:
    """The betas that a client of Anthropic's API asks for; what can be no name of one is ignored."""
    names = (each.strip() for each in header.split(b",", _BETAS_MAX))
    return tuple(each.decode() for each in names if _BETA.fullmatch(each))


def refuse_media(headers: Mapping[bytes, bytes]) -> Refusal | None:
    """415 unless the body is announced as plain, uncompressed JSON."""
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        return Refusal(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body as Content-Type: application/json."
        )
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return Refusal(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body without Content-Encoding.")
    return None


def announced_bytes(headers: Mapping[bytes, bytes]) -> int | None:
    """The size of the body as it is announced; ``None`` when it is not, or is no such number."""
    digits = headers.get(b"content-length", b"")
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS_MAX else None


def deadline_ms_of(headers: Mapping[bytes, bytes], default_s: float, max_s: float) -> int | Refusal:
    """Milliseconds the client gives the request: ``X-Request-Timeout`` in seconds, capped."""
    asked = headers.get(TIMEOUT_HEADER)
    if asked is None:
        return math.ceil(default_s * 1000)
    if not _DECIMAL.fullmatch(asked.strip()) or (asked_s := float(asked)) <= 0:
        return Refusal(
            ErrorCode.INVALID_REQUEST,
            "X-Request-Timeout must be a positive number of seconds.",
            param="X-Request-Timeout",
        )
    return math.ceil(min(asked_s, max_s) * 1000)


def traceparent_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The W3C trace context to carry on; ``None`` when absent or malformed.

    Whether anything of it is recorded is decided here and by nobody outside: it says that nothing is, until one of our
    own spans takes its place.
    """
    value = headers.get(b"traceparent")
    return None if value is None or read_traceparent(value) is None else unsampled(value)


def resumed_of(headers: Mapping[bytes, bytes]) -> EventId | Refusal | None:
    """The event in ``Last-Event-ID``; ``None`` without one. What is no id of ours is refused: to run the request once
    more, and bill it, is the last thing that its client wants."""
    sent = headers.get(b"last-event-id")
    if not sent:
        return None
    return read_event_id(sent) or Refusal(
        ErrorCode.INVALID_REQUEST,
        "Last-Event-ID must be the id of an event that this gateway sent.",
        param="Last-Event-ID",
    )


def header_key(headers: Mapping[bytes, bytes]) -> str | Refusal | None:
    """The key in ``Idempotency-Key``; ``None`` without one."""
    sent = headers.get(b"idempotency-key")
    if sent is None:
        return None
    key = sent.strip()
    quoted = _QUOTED_KEY.fullmatch(key)
    if quoted is not None:
        key = _ESCAPED_IN_KEY.sub(rb"\1", quoted[1])
    if not _BARE_KEY.fullmatch(key):
        return Refusal(
            ErrorCode.INVALID_REQUEST,
            "Idempotency-Key must be 1 to 255 visible ASCII characters.",
            param="Idempotency-Key",
        )
    return key.decode("ascii")


def webhook_url_of(headers: Mapping[bytes, bytes]) -> str | Refusal | None:
    """Where the end of a job shall be told; ``None`` where its client says nothing of it."""
    sent = headers.get(_WEBHOOK_URL)
    if sent is None:
        return None
    url = sent.strip().decode("latin-1")
    problem = webhook_problem(url) if url.isascii() else "a url is ASCII"
    if problem is None:
        return url
    message = f"{WEBHOOK_URL} cannot be called: {problem}."
    return Refusal(ErrorCode.INVALID_REQUEST, message, param=WEBHOOK_URL)


def page_limit(said: str | None, default: int, most: int) -> int | Refusal:
    """How many rows a page shall have, as the query says; digits without end are no number here."""
    if said is None:
        return default
    is_number = said.isascii() and said.isdigit() and len(said) <= len(str(most))
    if not is_number or not 1 <= int(said) <= most:
        message = f"limit must be an integer from 1 to {most}."
        return Refusal(ErrorCode.INVALID_REQUEST, message, param="limit")
    return int(said)


def read_object(body: bytes) -> dict[str, Any] | Refusal:
    """The JSON object in ``body``, or why it is refused."""
    separators = _separators(body) if len(body) > SEPARATORS_MAX else None
    if separators is not None and separators > SEPARATORS_MAX:
        return _not_json(f"The body has more than {SEPARATORS_MAX} values, however nested.")
    try:
        text = body.decode()
        value = _JSON.decode(text)
        _check_surrogates(text, value)
    except UnicodeError:
        return _not_json("The body is not valid UTF-8 text.")
    except RecursionError:
        return _not_json(f"The body is nested deeper than {DEPTH_MAX} levels.")
    except ValueError as error:
        return _not_json(f"The body is not acceptable JSON: {error}")
    if not isinstance(value, dict):
        return _not_json("The body must be a JSON object.")
    # Every level has a bracket, so that a long text of a few values is not looked through once more.
    if (separators is None or separators > DEPTH_MAX) and _is_too_deep(text, value):
        return _not_json(f"The body is nested deeper than {DEPTH_MAX} levels.")
    return value


def _separators(body: bytes) -> int:
    """The brackets, commas and colons of JSON that stand outside of strings, or as many quotes.

    Exact up to the first error of the text, where parsing ends.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    parts = body.split(b'"', 2 * SEPARATORS_MAX + 1)
    if len(parts) > 2 * SEPARATORS_MAX + 1:
        return len(parts)
    outside = b"".join(parts[::2])
    return sum(map(outside.count, (b"[", b"{", b",", b":")))


def _not_json(message: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_JSON, message)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:64]!a} appears twice")
    return made


def _integer(digits: str) -> int:
    # The length is looked at first, because reading a million digits takes quadratic time.
    if len(digits) > _INTEGER_CHARS_MAX or not INTEGER_MIN <= (value := int(digits)) <= INTEGER_MAX:
        raise ValueError("an integer is beyond 64 bits")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number is out of range")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_JSON: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def _check_surrogates(text: str, value: Any) -> None:
    """Raises ``UnicodeError`` for half of a surrogate pair, which no UTF-8 text can carry on."""
    if "\\" in text and _ESCAPED_SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()


def _is_too_deep(text: str, value: Any) -> bool:
    if text.count("{") + text.count("[") <= DEPTH_MAX:
        return False
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True

"""Reads one JSON object of a backend: fast where it is as expected, else as leniently as JSON allows. Pure.

What is only relayed must not fail a call: fields may be of any type, bytes that are no UTF-8 become U+FFFD, a byte
order mark is dropped, and what Python writes beside JSON (``NaN``, ``Infinity``, raw control characters) becomes
JSON. Every way in which an answer can be unreadable is one exception, ``UpstreamGarbage``. Sources: RFC 8259, 8.1 (a
parser may ignore a byte order mark); vllm-project/vllm#23267 and openai/openai-python#3819 for what backends send.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from dispatcher.upstream.event_splitter import BYTE_ORDER_MARK, UpstreamGarbage

MENDED_BYTES_MAX: Final = 1024 * 1024
"""What is no JSON by its letter is built and written anew only up to this size."""
VALUES_MAX: Final = 100_000
"""Brackets and commas of what is built whole; more would hold the process up while they are made."""
_T = TypeVar("_T")


def read_json(
    decoder: msgspec.json.Decoder[_T],
    sent: bytes,
    objects_max: int,
    loosely: Callable[[bytes], _T] | None = None,
) -> tuple[_T, bytes]:
    """The JSON object, and its bytes as valid JSON in UTF-8; ``loosely`` reads it where ``decoder`` cannot.

    Raises ``UpstreamGarbage`` for what is no JSON object.
    """
    if len(sent) > objects_max and sent.count(b"{") > objects_max:
        raise UpstreamGarbage(f"more than {objects_max} objects")
    if not sent.isascii():
        sent = _as_utf8(sent)
    try:
        return decoder.decode(sent), sent
    except msgspec.ValidationError:
        readable = sent
    except (ValueError, RecursionError):
        readable, sent = _mended(sent)
    try:
        return (loosely or decoder.decode)(readable), sent
    except (ValueError, RecursionError) as error:
        # Of msgspec, of UTF-8, of the stack: their texts may quote the answer, their kinds do not.
        raise UpstreamGarbage(f"no JSON of this shape ({type(error).__name__})") from error


def value_of(sent: bytes | memoryview) -> Any:
    """Any JSON value, half surrogate pairs and all; ``None`` when it is none, or too much to be built."""
    text = bytes(sent)
    if sum(map(text.count, (b"[", b"{", b","))) > VALUES_MAX:
        return None
    try:
        return json.loads(text.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None


def _mended(sent: bytes) -> tuple[bytes, bytes]:
    """What is almost JSON, once to be read and once to be relayed: as it came, where only half surrogate pairs stand
    in the reader's way, else written anew. Raises ``UpstreamGarbage`` for what is not even that."""
    if len(sent) > MENDED_BYTES_MAX:
        raise UpstreamGarbage("no JSON, and long")
    odd: list[str] = []
    try:
        text = sent.decode(errors="replace")
        value = json.loads(text, strict=False, parse_constant=odd.append, parse_float=_number)
        readable = json.dumps(value, ensure_ascii=False).encode(errors="replace")
        is_json = not odd and _is_strict(text)
        return readable, sent if is_json else json.dumps(value).encode()
    except (ValueError, RecursionError) as error:
        raise UpstreamGarbage(f"no JSON ({type(error).__name__})") from error


def _is_strict(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _number(digits: str) -> float | None:
    value = float(digits)
    return None if math.isinf(value) else value


def _as_utf8(sent: bytes) -> bytes:
    """What is only relayed must not fail a call: an odd byte becomes U+FFFD."""
    sent = sent.removeprefix(BYTE_ORDER_MARK)
    try:
        sent.decode()
    except UnicodeDecodeError:
        return sent.decode(errors="replace").encode()
    return sent

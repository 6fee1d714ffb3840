"""Decides whether a request body is acceptable JSON, and reads it.

Strict where parsers commonly differ: UTF-8, no duplicate keys, no NaN, no numbers beyond 2^53, no
lone surrogates, bounded depth. What two parsers could read differently is refused. A body of many small
values costs the parser a hundred times what a text of the same length does, so that values are counted
before anything is parsed. Source: RFC 8259, RFC 7493.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode

DEPTH_MAX: Final = 64
SEPARATORS_MAX: Final = 100_000
"""Brackets, commas and colons of a body; parsing that many takes at most some 50 ms."""
INTEGER_MAX: Final = 2**53
_INTEGER_CHARS_MAX: Final = len(str(-INTEGER_MAX))
_ESCAPED_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def read_object(body: bytes) -> dict[str, Any] | Refusal:
    """The JSON object in ``body``, or why it is refused."""
    if len(body) > SEPARATORS_MAX and _separators(body) > SEPARATORS_MAX:
        return _refused(f"The body has more than {SEPARATORS_MAX} values, however nested.")
    try:
        text = body.decode()
        value = _DECODER.decode(text)
        _check_surrogates(text, value)
    except UnicodeError:
        return _refused("The body is not valid UTF-8 text.")
    except RecursionError:
        return _refused(f"The body is nested deeper than {DEPTH_MAX} levels.")
    except ValueError as error:
        return _refused(f"The body is not acceptable JSON: {error}")
    if not isinstance(value, dict):
        return _refused("The body must be a JSON object.")
    if _is_too_deep(text, value):
        return _refused(f"The body is nested deeper than {DEPTH_MAX} levels.")
    return value


def _separators(body: bytes) -> int:
    """The brackets, commas and colons of JSON that stand outside of strings, or as many quotes.

    Exact up to the first error of the text, where parsing ends.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    quotes = body.count(b'"')
    if quotes > 2 * SEPARATORS_MAX:
        return quotes
    outside = b"".join(body.split(b'"')[::2])
    return sum(map(outside.count, (b"[", b"{", b",", b":")))


def _refused(message: str) -> Refusal:
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
    if len(digits) > _INTEGER_CHARS_MAX or abs(value := int(digits)) > INTEGER_MAX:
        raise ValueError("an integer is beyond 2^53")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number is out of range")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def _check_surrogates(text: str, value: Any) -> None:
    """Raises ``UnicodeError`` for half of a surrogate pair, which no UTF-8 text can carry on."""
    if _ESCAPED_SURROGATE.search(text):
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

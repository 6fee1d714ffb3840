"""What a body of 4 MiB may cost the event loop, whatever it is made of."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest

from ingress.http.refusals import Refusal
from ingress.http.request import SEPARATORS_MAX, read_object
from schemas.errors import ErrorCode

_BYTES = 4 * 1024 * 1024
_CPU_S_MAX = 0.15
"""Some 20 ms are measured; the rest is room for a slow machine."""


@pytest.fixture(autouse=True, scope="module")
def _small_heap() -> Iterator[None]:
    """The collector looks at what is made here, not at what thousands of other tests left behind."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def _filled(start: bytes, unit: bytes, end: bytes) -> bytes:
    return start + unit * ((_BYTES - len(start) - len(end)) // len(unit)) + end


def _many_keys() -> bytes:
    return b"{" + b",".join(b'"%x":0' % number for number in range(400_000)) + b"}"


BOMBS = {
    "lists": _filled(b'{"a":[', b"[],", b"[]]}"),
    "objects": _filled(b'{"a":[', b'{"a":{}},', b"0]}"),
    "numbers": _filled(b'{"a":[', b"1,", b"1]}"),
    "floats": _filled(b'{"a":[', b"1e1,", b"1]}"),
    "strings": _filled(b'{"a":[', b'"",', b'""]}'),
    "literals": _filled(b'{"a":[', b"null,", b"1]}"),
    "keys": _many_keys(),
    "one key": _filled(b"{", b'"a":0,', b'"z":0}'),
    "depth": _filled(b'{"a":', b"[", b""),
    "depth of objects": _filled(b"", b'{"a":', b""),
    "behind a quote that is none": _filled(b'{"a":["\\\\",', b"[],", b"[]]}"),
}
TEXTS = {
    "text": _filled(b'{"a":"', b"hello, world; [a] {b}: ", b'"}'),
    "table": _filled(b'{"a":"', b"1,2,3\\n", b'"}'),
    "escapes": _filled(b'{"a":"', b"\\u0041", b'"}'),
    "surrogates": _filled(b'{"a":"', b"\\ud83d\\ude00", b'"}'),
    "quotes": _filled(b'{"a":"', b'\\"', b'"}'),
    "backslashes": _filled(b'{"a":"', b"\\\\", b'"}'),
    "white space": _filled(b'{"a":', b" ", b"1}"),
    "a long fraction": _filled(b'{"a":1.', b"1", b"}"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_body_of_very_many_values_is_refused_before_it_is_parsed(name: str) -> None:
    begun_s = time.process_time()
    refusal = read_object(BOMBS[name])
    assert time.process_time() - begun_s < _CPU_S_MAX
    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.INVALID_JSON


@pytest.mark.parametrize("name", TEXTS)
def test_a_long_text_is_cheap_to_read(name: str) -> None:
    begun_s = time.process_time()
    fields = read_object(TEXTS[name])
    assert time.process_time() - begun_s < _CPU_S_MAX
    assert isinstance(fields, dict)


@pytest.mark.parametrize("unit", [b"[],", b"1,", b'"",'])
def test_as_many_values_as_may_be_are_read(unit: bytes) -> None:
    separators = unit.count(b",") + unit.count(b"[")
    body = b'{"a":[' + unit * ((SEPARATORS_MAX - 4) // separators) + b'""]}'
    begun_s = time.process_time()
    assert isinstance(read_object(body), dict)
    assert time.process_time() - begun_s < _CPU_S_MAX


def test_separators_inside_of_strings_do_not_count() -> None:
    body = b'{"a":"' + rb"\"[{:,\\" * 200_000 + b'","b":"' + b"," * 200_000 + b'"}'
    assert isinstance(read_object(body), dict)

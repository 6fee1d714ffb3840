"""Answers whose bytes are no text, no JSON, or JSON that nobody expects."""

from __future__ import annotations

from tests.support.fakes.shapes.wire import (
    DONE,
    LAST,
    STREAM,
    Shape,
    completion,
    event,
    good_stream,
    head,
    message_of,
    says,
    sized,
)

_ODD = b"caf\xe9 \xf0\x9f\x98"
_DEEP = b"[" * 100_000
_BROKEN = (502,)
_LENIENT = (200, 502)


def _body(name: str, body: bytes, statuses: tuple[int, ...], booked: str) -> Shape:
    return Shape(name, "bytes", says(sized(body)), statuses, booked)  # type: ignore[arg-type]


def _stream(name: str, *events: bytes, statuses: tuple[int, ...], booked: str) -> Shape:
    answer = says(good_stream(*events))
    return Shape(name, "bytes", answer, statuses, booked, stream=True)  # type: ignore[arg-type]


SHAPES = (
    _body("latin1-body", completion(content=b'"' + _ODD + b'"'), (200,), "exact"),
    _body("latin1-id", completion(ident=b'"c\xff"'), (200,), "exact"),
    _stream("latin1-delta", event(b'"' + _ODD + b'"'), statuses=(200,), booked="exact"),
    _stream("latin1-stream-id", event(ident=b'"\xff\xfe"'), statuses=(200,), booked="exact"),
    Shape(
        "latin1-error",
        "bytes",
        says(sized(message_of(b"mod\xe8le inconnu"), b"400 Bad")),
        (400,),
        "nothing",
    ),
    Shape(
        "control-error",
        "bytes",
        says(sized(message_of(b"\\u001b[31mred\\u0000\\r\\n\\u202e"), b"400 Bad")),
        (400,),
        "nothing",
    ),
    _body("nul", completion(content=b'"a\x00b"'), _LENIENT, "estimated"),
    _body("lone-surrogate", completion(content=b'"\\ud800"'), _LENIENT, "estimated"),
    _body("byte-order-mark", b"\xef\xbb\xbf" + completion(), _LENIENT, "estimated"),
    _body("utf16", completion().decode().encode("utf-16"), _BROKEN, "estimated"),
    _body("nan", completion(more=b',"logprob":NaN'), _LENIENT, "estimated"),
    _body("deep", completion(more=b',"x":' + _DEEP), _BROKEN, "estimated"),
    _body("deep-usage", completion(usage=_DEEP), _BROKEN, "estimated"),
    _stream("deep-event", event(more=b',"x":' + _DEEP), statuses=(0, 502), booked="estimated"),
    _body("duplicate-keys", b'{"id":7,"choices":5,' + completion()[1:], _LENIENT, "estimated"),
    _body("id-number", completion(ident=b"7"), _LENIENT, "estimated"),
    _body("id-object", completion(ident=b'{"a":[]}'), _LENIENT, "estimated"),
    _body("content-object", completion(content=b'{"a":1}'), _LENIENT, "estimated"),
    _body("choices-null", b'{"id":"c1","choices":null}', _LENIENT, "estimated"),
    _body("choices-object", b'{"id":"c1","choices":{"0":{}}}', _LENIENT, "estimated"),
    _stream("delta-null", event(delta=b"null"), statuses=(200,), booked="exact"),
    _stream("delta-array", event(delta=b"[1]"), statuses=(0, 200, 502), booked="estimated"),
    _body(
        "usage-huge",
        completion(usage=b'{"prompt_tokens":%b}' % (b"9" * 5_000)),
        (200,),
        "estimated",
    ),
    _body("usage-float", completion(usage=b'{"prompt_tokens":1e999}'), (200,), "estimated"),
    _body(
        "usage-strings",
        completion(usage=b'{"prompt_tokens":"11","completion_tokens":"7"}'),
        (200,),
        "estimated",
    ),
    _body(
        "usage-negative",
        completion(usage=b'{"prompt_tokens":-11,"completion_tokens":-7}'),
        (200,),
        "estimated",
    ),
    _body("usage-bools", completion(usage=b'{"prompt_tokens":true}'), (200,), "estimated"),
    _body("array", b"[]", _BROKEN, "estimated"),
    _body("html", b"<html><body>It works!</body></html>", _BROKEN, "estimated"),
    _body("nothing", b"", _BROKEN, "estimated"),
    Shape(
        "event-not-json",
        "bytes",
        says(head(b"200 OK", STREAM) + event() + b"data: \xff\xfe{]\n\n" + LAST + DONE),
        (0, 502),
        "estimated",
        stream=True,
    ),
)

"""Answers of servers that mean well and write otherwise, from public bug reports: all of them are whole answers, and what they cost is exact.

Sources: vllm-project/vllm#23267, Wei-Shaw/sub2api#5771 (floats), UKGovernmentBEIS/inspect_ai#5528 (details null), QuantumNous/new-api#406
(DeepSeek), router-for-me/CLIProxyAPI#5733 (reasoning on top), decolua/9router#1396 (JSON for a stream), lingyuins/octopus#152, apache/apisix#13565
(errors); WHATWG HTML, section 9.2 (event streams).
"""

from __future__ import annotations

from tests.support.fakes.shapes.wire import (
    DONE,
    LAST,
    PROMPT_TOKENS,
    STREAM,
    Booked,
    Shape,
    completion,
    dumps,
    event,
    head,
    says,
    says_and_hangs,
    sized,
)

_MARK = b"\xef\xbb\xbf"
_FINISH = b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
_WORDS = event() + event(b'"there"') + _FINISH
_HEAD = head(b"200 OK", STREAM)
_PARTS = (
    b'[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"42"}]'
)
_TOO_LONG = "maximum context length is 4096 tokens"


def _stream(name: str, *pieces: bytes, hangs: bool = False) -> Shape:
    answer = (says_and_hangs if hangs else says)(_HEAD + b"".join(pieces))
    return Shape(name, "dialect", answer, (200,), "exact", stream=True)


def _whole(name: str, body: bytes, *, stream: bool = False) -> Shape:
    return Shape(name, "dialect", says(sized(body)), (200,), "exact", stream=stream)


def _counts(name: str, **usage: object) -> Shape:
    counted = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": 7, "total_tokens": 18, **usage}
    return _whole(f"usage-{name}", completion(usage=dumps(counted)))


def _error(name: str, status: bytes, body: object) -> Shape:
    raw = body if isinstance(body, bytes) else dumps(body)
    booked: Booked = "nothing"
    return Shape(f"error-{name}", "dialect", says(sized(raw, status)), (int(status[:3]),), booked)


SHAPES = (
    _stream("done-without-blank-line", _WORDS, LAST, DONE.rstrip(b"\n")),
    _stream("usage-without-done", _WORDS, LAST),
    _stream("open-after-done", _WORDS, LAST, DONE, hangs=True),
    _stream("mark-before-events", _MARK, _WORDS, LAST, DONE),
    _stream("carriage-returns", (_WORDS + LAST + DONE).replace(b"\n", b"\r")),
    _stream("both-line-ends", (_WORDS + LAST + DONE).replace(b"\n", b"\r\n")),
    _stream("events-of-two-lines", (_WORDS + LAST).replace(b'"choices"', b'\ndata: "choices"'), DONE),
    _stream("events-with-fields", b": ping\n\nretry: 5\n\n", _WORDS.replace(b"data: ", b"id: 1\nevent: x\ndata:"), LAST, DONE),
    _stream("stream-of-parts", event(_PARTS), _FINISH, LAST, DONE),
    _stream("null-choices", _WORDS, b'data: {"id":"c1","choices":null}\n\n', LAST, DONE),
    _whole("mark-before-json", _MARK + completion()),
    _whole("space-before-json", b" \n" * 100 + completion()),
    _whole("content-of-parts", completion(content=_PARTS)),
    _whole("content-null", completion(content=b"null")),
    _whole("json-for-stream", completion(), stream=True),
    _counts("floats", prompt_tokens=11.0, completion_tokens=7.0, total_tokens=18.0),
    _counts("details-null", prompt_tokens_details=None, completion_tokens_details={"reasoning_tokens": None}),
    _counts("deepseek", prompt_cache_hit_tokens=8, prompt_cache_miss_tokens=3),
    _counts("moonshot", cached_tokens=8),
    _counts("reasoning-inside", completion_tokens_details={"reasoning_tokens": 4}),
    _counts("reasoning-on-top", completion_tokens=3, completion_tokens_details={"reasoning_tokens": 4}),
    _error("text", b"404 Not Found", {"error": "model 'llama9' not found"}),
    _error("flat", b"400 Bad Request", {"object": "error", "message": _TOO_LONG, "code": 400}),
    _error("detail", b"422 Unprocessable", {"detail": [{"type": "extra_forbidden", "loc": ["body"], "msg": "Extra inputs"}]}),
    _error("plain", b"400 Bad Request", b"prompt is too long"),
)  # fmt: skip

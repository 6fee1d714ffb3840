"""Makes raw requests that are wrong in one or a few places. Pure: all chance comes from the generator.

Most begin as a valid request, because what is rubbish from the first byte on is refused at the first byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

_PATHS: Final = (
    b"/v1/chat/completions", b"/v1/inference", b"/v1/jobs", b"/v1/models", b"/v1/status/healthz",
    b"/v1/status/readyz", b"/metrics", b"/v1/jobs/x", b"/v1/models/%00", b"/", b"*", b"//", b"/%ff",
    b"http://h/v1/models", b"/v1/chat/completions?" + b"a" * 500, b"@h", b"h:80", b"/\xc3\xa4", b"/..",
)  # fmt: skip
_METHODS: Final = (
    b"POST",
    b"GET",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"PUT",
    b"CONNECT",
    b"X",
    b"post",
)
_VERSIONS: Final = (b"HTTP/1.1",) * 8 + (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"")
_ODD_HEADERS: Final = (
    b"Host: a", b"Host:", b"Connection: close", b"Connection: upgrade\r\nUpgrade: h2c", b"Expect: 100-continue",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Content-Length: 3",
    b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Content-Encoding: gzip", b"X:\x00",
    b"X-Request-Timeout: nan", b"X-Request-Timeout: 1e9", b"X-Request-Timeout: 0.0000001", b" folded", b"no colon",
    b"Idempotency-Key: \xff", b"Idempotency-Key: " + b"k" * 256, b"Prefer: wait=\xb2, respond-async", b"A" * 9000 + b": b",
    b"Prefer: respond-async", b"Traceparent: 00-" + b"0" * 32, b"Authorization: Bearer", b"X-Api-Key: \xe9",
    b"Content-Type: text/plain", b"Accept: \x7f", b"Cookie: " + b"c" * 8000, b": empty", b"x\r: y",
)  # fmt: skip
_ODD_VALUES: Final[tuple[Any, ...]] = (
    None, True, -1, 0, 2**53, 2**63, 1e308, "", "\x00", "\ud800", "x" * 5000, [], {}, [[]], [{}], {"a": {}},
    [{"role": "user"}], [{"role": 1, "content": "x"}], [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": "\u0000"}]}], "user", "\u202e", ["a"] * 300,
)  # fmt: skip
_ODD_JSON: Final = (
    b"[" * 200, b'{"a":' * 200, b"{}", b"[]", b"null", b"", b'{"a":1,"a":2}', b"\xff\xfe", b"\xef\xbb\xbf{}",
    b'{"model":"\\ud800"}', b"NaN", b"[" + b"[]," * 2000 + b"[]]", b'{"a":' + b"9" * 5000 + b"}", b"1e999",
)  # fmt: skip

_Maker = Callable[[Random, bytes, bytes], bytes]


def raw_request(chance: Random, key: bytes, model: bytes) -> bytes:
    """One request, hostile more or less."""
    makers: tuple[_Maker, ...] = (_fields, _body_bytes, _head, _framing, _lines, _flood, _noise)
    weights = (6, 4, 5, 4, 4, 1, 1)
    return chance.choices(makers, weights)[0](chance, key, model)


def _valid_body(chance: Random, path: bytes, model: bytes) -> dict[str, Any]:
    name = model.decode()
    if path == b"/v1/inference":
        return {"request_id": f"r{chance.getrandbits(64)}", "model": name, "payload": "hi"}
    return {
        "model": name,
        "messages": [{"role": "user", "content": "hi there"}],
        "max_tokens": 2,
        "stream": chance.random() < 0.3,
    }


def _request(path: bytes, key: bytes, body: bytes, *more: bytes) -> bytes:
    lines = (
        b"POST " + path + b" HTTP/1.1",
        b"Host: gate",
        b"Authorization: Bearer " + key,
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *more,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _fields(chance: Random, key: bytes, model: bytes) -> bytes:
    """Valid JSON with odd values."""
    path = chance.choice(_PATHS[:3])
    body = _valid_body(chance, path, model)
    names = (
        *body,
        "n",
        "tools",
        "stream_options",
        "stop",
        "seed",
        "payload",
        "parameters",
        "ttl_s",
        "user",
    )
    for name in chance.sample(names, chance.randint(0, 2)):
        body[name] = chance.choice(_ODD_VALUES)
    return _request(path, key, json.dumps(body).encode())


def _body_bytes(chance: Random, key: bytes, model: bytes) -> bytes:
    """A body that is no JSON, or hardly."""
    path = chance.choice(_PATHS[:3])
    if chance.random() < 0.3:
        return _request(path, key, chance.choice(_ODD_JSON))
    return _request(
        path, key, _mutated(chance, json.dumps(_valid_body(chance, path, model)).encode())
    )


def _head(chance: Random, key: bytes, model: bytes) -> bytes:
    """Bytes of the head changed."""
    head, _, body = _valid(chance, key, model).partition(b"\r\n\r\n")
    return _mutated(chance, head) + b"\r\n\r\n" + body


def _framing(chance: Random, key: bytes, model: bytes) -> bytes:
    """A body in chunks, sound or not."""
    whole = _valid(chance, key, model)
    head, _, body = whole.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    chunks = b""
    while body:
        size = chance.randint(1, len(body))
        said = size if chance.random() < 0.9 else chance.choice((-1, 0, size + 1, 2**64))
        extension = b";" + b"e" * chance.randint(0, 99) if chance.random() < 0.2 else b""
        chunks += b"%x" % said + extension + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:]
    trailer = b"Authorization: Bearer x\r\n" * chance.choice((0, 0, 1, 200))
    lines.append(b"Transfer-Encoding: chunked")
    return b"\r\n".join(lines) + b"\r\n\r\n" + chunks + b"0\r\n" + trailer + b"\r\n"


def _lines(chance: Random, key: bytes, model: bytes) -> bytes:
    """Another request line, odd headers among the good ones."""
    head, _, body = _valid(chance, key, model).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")[1:]
    for header in chance.sample(_ODD_HEADERS, chance.randint(0, 3)):
        lines.insert(chance.randint(0, len(lines)), header)
    start = b" ".join((chance.choice(_METHODS), chance.choice(_PATHS), chance.choice(_VERSIONS)))
    return b"\r\n".join((start, *lines)) + b"\r\n\r\n" + body


def _flood(chance: Random, key: bytes, model: bytes) -> bytes:
    """Too much of something."""
    head, _, body = _valid(chance, key, model).partition(b"\r\n\r\n")
    kind = chance.randint(0, 3)
    if kind == 0:
        return head + b"\r\nX: " + b"a" * 100_000
    if kind == 1:
        return head + b"\r\na: b" * 1_000 + b"\r\n\r\n" + body
    if kind == 2:
        return b"GET /v1/models HTTP/1.1\r\nHost: gate\r\n\r\n" * chance.randint(2, 500)
    return b"\r\n" * 5_000 + head


def _noise(chance: Random, key: bytes, model: bytes) -> bytes:
    return chance.randbytes(chance.randint(1, 3_000))


def _valid(chance: Random, key: bytes, model: bytes) -> bytes:
    path = chance.choice(_PATHS[:3])
    return _request(path, key, json.dumps(_valid_body(chance, path, model)).encode())


def _mutated(chance: Random, raw: bytes) -> bytes:
    """A few bytes flipped, dropped, doubled, or the end cut off."""
    mutated = bytearray(raw)
    for _ in range(chance.randint(1, 3)):
        if not mutated:
            break
        place = chance.randrange(len(mutated))
        match chance.randint(0, 4):
            case 0:
                mutated[place] = chance.randrange(256)
            case 1:
                del mutated[place]
            case 2:
                mutated[place:place] = chance.randbytes(chance.randint(1, 8))
            case 3:
                mutated[place:place] = mutated[place : place + 20]
            case _:
                del mutated[place:]
    return bytes(mutated)

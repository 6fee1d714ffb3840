"""What the fake backend answers to an embeddings call: a pure function of the request.

A word of a text is a token, as is each number of a list. The model ``fake-no_usage`` keeps silent about usage.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any, Literal

import msgspec

DIMENSIONS = 8

Input = str | list[int]
"""A text, or the tokens of one."""


class Request(msgspec.Struct, frozen=True):
    """The fields of an embeddings request that matter here."""

    model: str
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    stream: bool = False

    @property
    def inputs(self) -> list[Input]:
        if isinstance(self.input, str) or isinstance(self.input[0], int):
            return [self.input]
        return self.input

    @property
    def prompt_tokens(self) -> int:
        return sum(len(each.split() if isinstance(each, str) else each) for each in self.inputs)


_REQUEST = msgspec.json.Decoder(Request)


def parse(body: bytes) -> Request:
    """The request in `body`; `msgspec.DecodeError` when it is none."""
    return _REQUEST.decode(body)


def vector(given: Input, dimensions: int = DIMENSIONS) -> list[float]:
    """The input's vector, of numbers that 32 bits hold exactly."""
    return [zlib.crc32(f"{given} {at}".encode()) % 2_048 / 1_024 - 1 for at in range(dimensions)]


def answer(request: Request) -> dict[str, Any]:
    """One vector for each input, in their order."""
    vectors = [vector(each, request.dimensions or DIMENSIONS) for each in request.inputs]
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(floats, request)}
        for index, floats in enumerate(vectors)
    ]
    body: dict[str, Any] = {"object": "list", "data": data, "model": request.model}
    if request.model != "fake-no_usage":
        tokens = request.prompt_tokens
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return body


def _encoded(floats: list[float], request: Request) -> list[float] | str:
    if request.encoding_format != "base64":
        return floats
    return base64.b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()

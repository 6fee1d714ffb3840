"""Frames: what a worker sends to the ingress that holds the client's connection. Pure.

A request's frames are numbered 1, 2, ... under one fence; the last one is terminal. Bodies travel
inline, once. Encoded as MessagePack arrays, because a frame is read within milliseconds by the same
version of the code; nothing keeps it.
"""

from __future__ import annotations

import msgspec

from schemas.events import Denial, RateStatus, Said

__all__ = ["Chunk", "Frame", "Started", "Terminal", "Usage", "decode_frame", "encode_frame"]


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """What the call used: tokens, and its cost (null without a price)."""

    input_tokens: int
    output_tokens: int
    cost_nano_usd: int | None
    estimated: bool
    cached_tokens: int = 0
    """Of the input, read from a cache."""
    cache_write_tokens: int = 0
    """Of the input, written to one, for whatever time."""
    reasoning_tokens: int = 0
    """Of the output, spent on reasoning."""


class Started(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """The backend answered 200 to a stream: headers may go out now."""

    backend: str
    rates: tuple[RateStatus, ...]
    """The buckets that its request was charged for."""
    shown: bytes | None = None
    """What a job's surface repeats of it: whoever reads the frames later has nothing else of its request."""


class Chunk(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Whole server-sent events, ready to relay."""

    body: bytes


class Terminal(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """The end: a body on success, an error code otherwise."""

    http_status: int
    body: bytes = b""
    error_code: str | None = None
    error_message: str | None = None
    denial: Denial | None = None
    retry_after_ms: int | None = None
    backend: str | None = None
    latency_ms: int = 0
    usage: Usage | None = None
    rates: tuple[RateStatus, ...] = ()
    said: Said | None = None


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One frame of one request."""

    request_id: str
    fence: int
    seq: int
    content: Started | Chunk | Terminal


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Frame)


def encode_frame(frame: Frame) -> bytes:
    """The frame as MessagePack."""
    return _ENCODER.encode(frame)


def decode_frame(message: bytes) -> Frame:
    """The frame in ``message``; ``msgspec.DecodeError`` when it is none."""
    return _DECODER.decode(message)

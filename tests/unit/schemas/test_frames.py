"""Frames survive the bus."""

from __future__ import annotations

import msgspec
import pytest

from schemas.events import Denial, RateStatus
from schemas.frames import Chunk, Frame, Started, Terminal, Usage, decode_frame, encode_frame

_DENIAL = Denial(
    limit_id="org:budget:day", limit_type="budget", unit="nano_usd", current_usage=1, limit=1
)


_RATE = RateStatus(id="org:requests_per_s", limit=20, remaining=3, reset_ms=1_700)


@pytest.mark.parametrize(
    "content",
    [
        Started("b1", (_RATE,)),
        Chunk(b"data: {}\n\n"),
        Terminal(
            http_status=200,
            body=b"\x00\xff",
            usage=Usage(1, 2, None, estimated=True),
            rates=(_RATE,),
        ),
        Terminal(http_status=402, error_code="BUDGET_EXCEEDED", denial=_DENIAL, retry_after_ms=5),
    ],
    ids=["started", "chunk", "success", "refusal"],
)
def test_a_frame_is_read_as_it_was_sent(content: Started | Chunk | Terminal) -> None:
    """Its fence may be as large as an epoch makes it."""
    frame = Frame("r1", 7 * 2**32 + 1, 3, content)

    assert decode_frame(encode_frame(frame)) == frame


@pytest.mark.parametrize("message", [b"", b"\xc1", msgspec.msgpack.encode(["r1", 1, 1, ["x"]])])
def test_what_is_no_frame_is_refused(message: bytes) -> None:
    """With the codec's own exception."""
    with pytest.raises(msgspec.DecodeError):
        decode_frame(message)

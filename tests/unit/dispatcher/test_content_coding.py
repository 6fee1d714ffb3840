"""What a backend compressed unasked is decoded within bounds, or refused by name."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.upstream.content_coding import PIECE_BYTES_MAX, decoding_of
from dispatcher.upstream.event_splitter import UpstreamGarbage
from dispatcher.upstream.upstream_failure import UpstreamFailure
from schemas.operations import OPERATIONS
from tests.support.scripted_backend import answering, backend, choice_of, upstreams

_TEXT = b'{"choices":[]}' * 50


def _raw(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(text) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        ("gzip", gzip.compress(_TEXT)),
        ("X-GZIP ", gzip.compress(_TEXT)),
        ("gzip", gzip.compress(_TEXT[:99]) + gzip.compress(_TEXT[99:])),
        ("deflate", zlib.compress(_TEXT)),
        ("deflate", _raw(_TEXT)),
    ],
    ids=["gzip", "its old name", "in two members", "deflate", "without a header"],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_gzip_and_deflate_are_decoded(coding: str, sent: bytes, size: int) -> None:
    """However the body is cut into pieces."""
    decoding = decoding_of(coding)
    assert decoding is not None

    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    assert b"".join(made for piece in pieces for made in decoding.decoded(piece)) == _TEXT


@pytest.mark.parametrize("coding", [None, "", "identity", " Identity"])
def test_nothing_is_done_where_nothing_was(coding: str | None) -> None:
    """The usual case."""
    assert decoding_of(coding) is None


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "x" * 9_000])
def test_another_coding_is_refused_by_its_name(coding: str) -> None:
    """The cause is clear, and short."""
    with pytest.raises(UpstreamGarbage, match="content coding") as caught:
        decoding_of(coding)
    assert len(str(caught.value)) < 100


def test_a_bomb_comes_out_in_pieces() -> None:
    """So that whoever reads can stop."""
    decoding = decoding_of("gzip")
    assert decoding is not None
    made = decoding.decoded(gzip.compress(bytes(10_000_000)))

    assert [len(next(made)) for _ in range(3)] == [PIECE_BYTES_MAX] * 3


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_decoded_or_garbage(sent: bytes, coding: str) -> None:
    """Nothing else is raised."""
    decoding = decoding_of(coding)
    assert decoding is not None
    try:
        for _ in decoding.decoded(sent):
            pass
    except UpstreamGarbage:
        pass


async def _body(sent: bytes, coding: str) -> bytes:
    async with (
        backend(answering(200, sent, {"content-encoding": coding})) as url,
        upstreams() as client,
        client.call(choice_of(url), OPERATIONS["chat.completions"], b"{}", "r1") as response,
    ):
        return await client.body(response)


async def test_a_call_reads_what_was_compressed() -> None:
    """Though it asked for identity."""
    assert await _body(gzip.compress(_TEXT), "gzip") == _TEXT


async def test_a_bomb_is_refused_at_the_bound_of_any_answer() -> None:
    """16 MiB, of which 50 kB came."""
    with pytest.raises(UpstreamFailure, match="bytes") as caught:
        await _body(gzip.compress(bytes(50_000_000)), "gzip")

    assert not caught.value.is_backends_fault

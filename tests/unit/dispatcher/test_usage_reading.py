"""What was really used comes back out of any dialect, and nothing that a backend sends raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.operations.usage.dialects import NAMES
from dispatcher.operations.usage.reading import believed, elsewhere, tier, told
from schemas.pricing.counts import TokenCounts


@st.composite
def _uses(draw: st.DrawFn) -> TokenCounts:
    """What a request may really use: an input, some of it cached or written; an output, some of it thoughts."""
    cached, written, written_1h, fresh = (draw(st.integers(0, 10**6)) for _ in range(4))
    reasoning, text = draw(st.integers(0, 10**6)), draw(st.integers(1, 10**6))
    return TokenCounts(
        cached + written + written_1h + fresh + 1,
        reasoning + text,
        cached,
        reasoning,
        cache_write_tokens=written,
        cache_write_1h_tokens=written_1h,
    )


def _plain(use: TokenCounts) -> dict[str, Any]:
    return {
        "prompt_tokens": use.input_tokens,
        "completion_tokens": use.output_tokens,
        "total_tokens": use.input_tokens + use.output_tokens,
        "prompt_tokens_details": {"cached_tokens": use.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": use.reasoning_tokens},
    }


def _xai(use: TokenCounts) -> dict[str, Any]:
    return _plain(use) | {"completion_tokens": use.output_tokens - use.reasoning_tokens}


def _deepseek(use: TokenCounts) -> dict[str, Any]:
    sent = _plain(use) | {
        "prompt_cache_hit_tokens": use.cached_tokens,
        "prompt_cache_miss_tokens": use.input_tokens - use.cached_tokens,
    }
    del sent["prompt_tokens_details"]
    return sent


def _fractions(use: TokenCounts) -> dict[str, Any]:
    sent = _plain(use)
    return {k: v if isinstance(v, dict) else float(v) for k, v in sent.items()}


def _texts(use: TokenCounts) -> dict[str, Any]:
    sent = _plain(use)
    return {k: v if isinstance(v, dict) else f"{v}.0" for k, v in sent.items()}


def _responses(use: TokenCounts) -> dict[str, Any]:
    return {
        "input_tokens": use.input_tokens,
        "input_tokens_details": {"cached_tokens": use.cached_tokens},
        "output_tokens": use.output_tokens,
        "output_tokens_details": {"reasoning_tokens": use.reasoning_tokens},
        "total_tokens": use.input_tokens + use.output_tokens,
    }


def _anthropic(use: TokenCounts) -> dict[str, Any]:
    written = use.cache_write_tokens + use.cache_write_1h_tokens
    return {
        "input_tokens": use.input_tokens - use.cached_tokens - written,
        "cache_read_input_tokens": use.cached_tokens,
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": use.cache_write_tokens,
            "ephemeral_1h_input_tokens": use.cache_write_1h_tokens,
        },
        "output_tokens": use.output_tokens,
    }


def _proxied(use: TokenCounts) -> dict[str, Any]:
    return _plain(use) | {
        "cache_creation_input_tokens": use.cache_write_tokens + use.cache_write_1h_tokens,
        "cache_read_input_tokens": use.cached_tokens,
        "cache_creation": {"ephemeral_1h_input_tokens": use.cache_write_1h_tokens},
    }


def _without(use: TokenCounts, *names: str) -> TokenCounts:
    """The use, but for what the dialect has no name for."""
    kept = {field: getattr(use, field) for field in use.__struct_fields__ if field not in names}
    return TokenCounts(**kept)


WRITES = ("cache_write_tokens", "cache_write_1h_tokens")
DIALECTS: dict[str, tuple[Callable[[TokenCounts], dict[str, Any]], tuple[str, ...]]] = {
    "OpenAI": (_plain, WRITES),
    "xAI": (_xai, WRITES),
    "DeepSeek": (_deepseek, WRITES),
    "floats": (_fractions, WRITES),
    "texts": (_texts, WRITES),
    "responses": (_responses, WRITES),
    "Anthropic": (_anthropic, ("reasoning_tokens",)),
    "proxied": (_proxied, ()),
}


@pytest.mark.parametrize(("write", "unnamed"), DIALECTS.values(), ids=DIALECTS)
@given(use=_uses())
def test_what_was_used_comes_back_out_of_each_dialect(
    write: Callable[[TokenCounts], dict[str, Any]], unnamed: tuple[str, ...], use: TokenCounts
) -> None:
    """The writers are the dialects' documents in code, and share nothing with the reader."""
    sent = msgspec.Raw(msgspec.json.encode(write(use)))

    assert told(sent).counts == _without(use, *unnamed)


_COUNTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["11", "-1", "1e9", "٣", "", "11.5", "9" * 40]),
)
_TOP = sorted({name.partition(".")[0] for name in NAMES})
_INNER = sorted({name.rpartition(".")[2] for name in NAMES})


@given(
    st.dictionaries(
        st.sampled_from(_TOP),
        _COUNTS | st.dictionaries(st.sampled_from(_INNER), _COUNTS, max_size=4) | st.lists(_COUNTS),
    )
)
def test_whatever_a_backend_counts_is_possible_or_no_count(usage: dict[str, Any]) -> None:
    """No part exceeds its whole, nothing is negative, and nothing raises."""
    for counts in (told(msgspec.Raw(msgspec.json.encode(usage))).counts, elsewhere(usage).counts):
        if counts is not None:
            of_cache = (
                counts.cached_tokens + counts.cache_write_tokens + counts.cache_write_1h_tokens
            )
            assert counts.input_tokens > 0
            assert 0 <= of_cache <= counts.input_tokens
            assert 0 <= counts.reasoning_tokens <= counts.output_tokens
            assert (
                min(counts.cached_tokens, counts.cache_write_tokens, counts.cache_write_1h_tokens)
                >= 0
            )


@given(
    st.recursive(
        _COUNTS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner)
    )
)
def test_no_body_raises(body: Any) -> None:
    """Also one that is no object."""
    assert elsewhere(body).counts is None


@pytest.mark.parametrize(
    "sent", [b"[]", b"7", b'"x"', b'{"prompt_tokens":', b"[" * 9_000, b"{}" + b" " * 20_000]
)
def test_what_is_no_usage_is_no_count(sent: bytes) -> None:
    """An answer is not lost because its counts are garbled, or too long to be any."""
    assert told(msgspec.Raw(sent)).counts is None


def test_zeros_beside_a_text_are_no_counts() -> None:
    """Without a text they are: a filter may have swallowed it."""
    nothing = TokenCounts(11, 0)

    assert believed(nothing, has_text=True) is None
    assert believed(nothing, has_text=False) is nothing
    assert believed(TokenCounts(11, 7), has_text=True) == TokenCounts(11, 7)
    assert believed(None, has_text=True) is None


def test_a_tier_is_what_was_sent_and_bounded() -> None:
    """Which tier a name means is for prices to say; what is no text is none."""
    assert [tier("flex"), tier("Priority "), tier("x" * 100)] == ["flex", "Priority ", "x" * 64]
    assert [tier(sent) for sent in ("", None, 5, ["flex"])] == [None] * 4

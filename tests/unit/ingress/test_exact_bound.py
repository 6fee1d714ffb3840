"""The exact bound covers what a template and the model's own tokenizer make of a request (issue 11, Build 5)."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rs_bpe.bpe import openai

from ingress.apis.exact_bound import exact_bound
from ingress.apis.openai import chat, embeddings
from ingress.apis.parsed_request import Call, ParsedRequest
from ingress.auth.caller import Caller
from schemas.config_state import Snapshot, prices_of
from schemas.entities import Budget, Limits, Model, Organization, Quota, Target
from schemas.tokenizers import TokenizerFile, count

CALLER: Final = Caller("key_a", "acme", None, None, None)
BUDGET: Final = Limits(budgets=(Budget(usd="0.01", period="day"),))
MODEL: Final = Model(
    backends=(Target(backend="b"),),
    input_usd_per_mtok="2.5",
    output_usd_per_mtok="10",
    image_tokens=1_500,
    tokenizer="o200k_base",
)
PROSE: Final = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while. " * 200
TOKENIZER: Final = openai.o200k_base()
_COUNT: Final = partial(count, "o200k_base")


def _call(
    *messages: dict[str, Any], limits: Limits = BUDGET, model: Model = MODEL, **more: Any
) -> Call:
    config = Snapshot(
        organizations={"acme": Organization(limits=limits)},
        models={"m": model},
        prices={"m": prices_of("m", model, 1)},
    )
    parsed = chat.parse({"model": "m", "messages": list(messages), **more}, config, CALLER)
    assert isinstance(parsed, ParsedRequest), parsed
    return parsed.call


def _exact(*messages: dict[str, Any], **more: Any) -> int:
    texts = _call(*messages, **more).texts
    assert texts is not None
    return exact_bound(texts, _COUNT)


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_prose_that_its_bytes_would_refuse_fits_by_its_tokens() -> None:
    """15 kB at 2.5 USD per million are 0.039 USD by bytes and 0.009 by tokens; the budget is 0.01."""
    call = _call(_user(PROSE), max_tokens=10)
    exact = _exact(_user(PROSE), max_tokens=10)

    assert call.input_tokens_bound * 2.5e-6 > 0.01
    assert exact * 2.5e-6 + 10 * 10e-6 < 0.01


@pytest.mark.parametrize(
    ("limits", "is_counted"),
    [
        (BUDGET, True),
        (Limits(tokens_per_min=9), True),
        (Limits(quotas=(Quota(amount=9, unit="tokens", period="day"),)), True),
        (Limits(requests_per_s=9), False),
        (Limits(), False),
    ],
)
def test_it_is_counted_only_where_a_limit_counts_on_it(
    limits: Limits, is_counted: bool
) -> None:  # a case
    """Nobody pays for a count that decides nothing."""
    assert (_call(_user("x"), limits=limits).texts is not None) is is_counted


def test_a_model_without_a_tokenizer_is_bound_by_bytes() -> None:
    """No tokenizer bounds a foreign model."""
    foreign = msgspec.structs.replace(MODEL, tokenizer=None)

    assert _call(_user("x"), model=foreign).texts is None


def test_a_model_with_a_tokenizer_file_is_counted_by_that_file() -> None:
    """And by the hash that the model states."""
    own = msgspec.structs.replace(
        MODEL, tokenizer=None, tokenizer_file="own.json", tokenizer_sha256="a" * 64
    )
    texts = _call(_user("x"), model=own).texts

    assert texts is not None
    assert texts.tokenizer == TokenizerFile("own.json", "a" * 64)


def test_a_hosted_tool_keeps_the_whole_window() -> None:
    """What it finds is not in the texts."""
    window = msgspec.structs.replace(
        MODEL, max_tool_calls=1, context_window_tokens=50_000, unknown_fields="pass"
    )
    free = msgspec.structs.replace(window, input_usd_per_mtok=None, output_usd_per_mtok=None)
    call = _call(_user("x"), model=free, tools=[{"type": "web_search"}])

    assert (call.input_tokens_bound, call.texts) == (50_000, None)


def test_pictures_and_tools_stay_as_they_are_bound() -> None:
    """Only texts are counted anew."""
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    tool = {"type": "function", "function": {"name": "f", "description": "d" * 900}}
    plain = _exact(_user([{"type": "text", "text": "x"}]))

    with_picture = _exact(_user([{"type": "text", "text": "x"}, picture]))
    assert plain + 1_500 <= with_picture < plain + 1_600
    assert _exact(_user([{"type": "text", "text": "x"}]), tools=[tool]) > plain + 900


_TEXTS = st.text(max_size=80) | st.sampled_from(
    ["<|endoftext|>", "\n\n \n", "'s're", "e\u0301" * 9, "a" * 70, '{"a": [1, "\\n"]}', "😀" * 9]
)
_MESSAGES = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text},
        st.sampled_from(["system", "user", "assistant", "tool"]),
        _TEXTS,
    ),
    min_size=1,
    max_size=5,
)


def _chatml(messages: list[dict[str, Any]]) -> int:
    """Tokens by the cookbook's formula: three and the role for each message, three for the answer."""
    return 3 + sum(
        3 + int(TOKENIZER.count(each["role"])) + int(TOKENIZER.count(each["content"]))
        for each in messages
    )


def _instructed(messages: list[dict[str, Any]]) -> int:
    """Tokens of a template without special tokens, whose text runs together (Llama 2, Mistral)."""
    return int(
        TOKENIZER.count("".join(f"<s>[INST] {each['content']} [/INST]" for each in messages))
    )


def _as_json(messages: list[dict[str, Any]]) -> int:
    """Tokens of a template that writes tools' texts as JSON (Llama 3.1)."""
    return 3 + sum(
        5
        + int(
            TOKENIZER.count(
                msgspec.json.encode(each["content"]).decode()
                if each["role"] == "tool"
                else each["content"]
            )
        )
        for each in messages
    )


@given(_MESSAGES)
def test_the_exact_bound_covers_every_template(messages: list[dict[str, Any]]) -> None:
    """Counted whole by the same tokenizer; never above the bound by bytes for longer texts."""
    bound = _exact(*messages)

    assert bound >= max(_chatml(messages), _instructed(messages), _as_json(messages))


def test_embeddings_are_counted_too() -> None:
    """Each text of the input; tokens given as numbers keep their bytes."""
    config = Snapshot(
        organizations={"acme": Organization(limits=BUDGET)},
        models={"m": MODEL},
        prices={"m": prices_of("m", MODEL, 1)},
    )
    parsed = embeddings.parse({"model": "m", "input": [PROSE, "x"]}, config, CALLER)
    assert isinstance(parsed, ParsedRequest)
    assert parsed.call.texts is not None

    exact = exact_bound(parsed.call.texts, _COUNT)
    assert int(TOKENIZER.count(PROSE)) < exact < parsed.call.input_tokens_bound / 3

"""Errors of backends keep their meaning, in every common shape (faults.md C5, D6)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.upstream import foreign
from dispatcher.upstream.backend_words import BackendWords, words_of, words_of_body
from dispatcher.upstream.context_overflow import CODE, TEXTS, is_context_overflow
from dispatcher.upstream.upstream_failure import error_in_answer, refusal

SHAPES: dict[str, tuple[Any, BackendWords]] = {
    "OpenAI": (
        {"error": {"message": "no", "type": "invalid_request_error", "param": "messages[0]", "code": "bad_role"}},
        BackendWords("no", "bad_role", "messages[0]", "invalid_request_error")),
    "a text (Ollama)": ({"error": "model 'x' not found"}, BackendWords("model 'x' not found")),
    "a text and its type (TGI)": ({"error": "too hot", "error_type": "validation"}, BackendWords("too hot", type="validation")),
    "vLLM of old": (
        {"object": "error", "message": "bad temperature", "type": "BadRequestError", "param": None, "code": 400},
        BackendWords("bad temperature", None, None, "BadRequestError", 400)),
    "vLLM": (
        {"error": {"message": "bad", "type": "BadRequestError", "param": "n", "code": 422}},
        BackendWords("bad", None, "n", "BadRequestError", 422)),
    "FastAPI": ({"detail": "at most 2"}, BackendWords("at most 2")),
    "pydantic": (
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "foo"], "msg": "Extra inputs"},
                    {"loc": ["body", "n"], "msg": "too large"}]},
        BackendWords("body.foo: Extra inputs; body.n: too large")),
    "Mistral": (
        {"object": "error", "type": "invalid_request_error",
         "message": {"detail": [{"loc": ["body", "n"], "msg": "Extra inputs"}]}},
        BackendWords("body.n: Extra inputs", type="invalid_request_error")),
    "a message alone": ({"message": "Unauthorized"}, BackendWords("Unauthorized")),
    "Anthropic": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        BackendWords("Overloaded", type="overloaded_error")),
    "a list (Gemini)": (
        [{"error": {"code": 404, "message": "no model", "status": "NOT_FOUND"}}],
        BackendWords("no model", status=404)),
    "a list of errors (Cloudflare)": (
        {"success": False, "errors": [{"code": 5006, "message": "bad input"}]}, BackendWords("bad input")),
    "a proxy of a proxy": (
        {"error": {"message": json.dumps({"error": {"message": "the inner one"}})}}, BackendWords("the inner one")),
    "a status as text": ({"error": {"message": "no", "code": "429"}}, BackendWords("no", status=429)),
    "nothing but null": ({"error": {"message": None, "code": None}}, BackendWords()),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "words"), SHAPES.values(), ids=SHAPES)
def test_what_a_backend_says_is_found_in_every_shape(sent: Any, words: BackendWords) -> None:
    """Message, code, param, type, and a status where it names one."""
    assert words_of_body(json.dumps(sent).encode()) == words


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"prompt is bad", "prompt is bad"),
        (
            b"<html><head><title>413 Too &amp; Large</title></head><h1>x</h1></html>",
            "413 Too & Large",
        ),
        (b"<html><body><h1>nginx</h1></body></html>", None),
        (b'{"error": {"mess', None),
        (b"", None),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
    ids=["text", "HTML with a title", "HTML without", "JSON cut off", "empty", "odd bytes"],
)
def test_what_is_no_json_is_told_as_far_as_it_is_text(body: bytes, message: str | None) -> None:
    """Of HTML its title only."""
    assert words_of_body(body).message == message


OVERFLOWS = {
    "OpenAI": "This model's maximum context length is 4097 tokens. However, your messages resulted in 4200 tokens.",
    "vLLM": "The decoder prompt (length 9000) is longer than the maximum model length of 4096.",
    "SGLang": "The input (9000 tokens) is longer than the model's context length (4096 tokens).",
    "llama.cpp": "request (4476 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "Anthropic": "prompt is too long: 210000 tokens > 200000 maximum",
    "Anthropic, output": "input length and `max_tokens` exceed context limit: 170636 + 34048 > 200000",
    "Mistral": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
    "Gemini": "The input token count (1300000) exceeds the maximum number of tokens allowed (1048576).",
    "Bedrock": "Input is too long for requested model.",
    "xAI": "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
    "Groq": "Please reduce the length of the messages or completion.",
    "Cohere": "too many tokens: total number of tokens in the prompt cannot exceed 4081",
    "Ollama": "the input length exceeds the context length",
    "TGI": "Input validation error: `inputs` must have less than 4096 tokens. Given: 9000",
    "Kimi": "Invalid request: Your request exceeded model token limit: 8192",
    "ds4": "Prompt has 256468 tokens, but the configured context size is 256000 tokens",
}


@pytest.mark.parametrize("message", OVERFLOWS.values(), ids=OVERFLOWS)
def test_a_request_that_is_too_long_is_known_by_openais_code(message: str) -> None:
    """Whoever says it; programs shorten the conversation then."""
    words = words_of_body(json.dumps({"error": {"message": message, "code": 400}}).encode())

    assert (words.code, words.message) == (CODE, message)


def test_a_type_of_its_own_is_enough() -> None:
    """llama.cpp's."""
    assert is_context_overflow(None, None, "exceed_context_size_error")
    assert len(TEXTS) > 15


@pytest.mark.parametrize(
    "message",
    ["Too many tokens, please wait before trying again.", "Rate limit reached: reduce the length of the messages",
     "max_tokens must be at least 1", "context is required", None],
)  # fmt: skip
def test_what_only_sounds_like_it_is_not_taken_for_it(message: str | None) -> None:
    """Bedrock's throttling has tokens in it too (jin-bo/agentao#88)."""
    assert not is_context_overflow(message, None, None)


@pytest.mark.parametrize(
    "sent",
    ["Incorrect API key provided: sk-proj-12345***6789", "key SECRET-OF-OURS is over", "Bearer abc.def is not valid",
     "cannot reach gpu-7.corp.example:8000", "connect ECONNREFUSED 10.1.2.3:8000", "no route to 192.168.0.7",
     "http://vllm.prod.svc:8000/v1 is down", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc expired"],
)  # fmt: skip
def test_no_key_and_no_inner_address_gets_out(sent: str) -> None:
    """Also none of a backend's own backends."""
    told = foreign.message(sent, ("SECRET-OF-OURS", "gpu-7.corp.example:8000"))

    assert told is not None
    assert "[hidden]" in told
    for secret in (
        "12345",
        "SECRET",
        "abc.def",
        "gpu-7",
        "10.1.2.3",
        "192.168",
        "vllm.prod",
        "eyJ",
    ):
        assert secret not in told


@pytest.mark.parametrize(
    ("words", "has_begun", "code", "status", "may_have_spent"),
    [
        (BackendWords("no", status=400), False, "upstream_rejected", 400, False),
        (BackendWords("long", code=CODE), False, "upstream_rejected", 400, False),
        (BackendWords("slow", status=429), False, "upstream_rate_limited", 429, False),
        (BackendWords("down", status=503), False, "upstream_error", 200, True),
        (BackendWords("down"), False, "upstream_error", 200, True),
        (BackendWords("no", status=400), True, "upstream_interrupted", 200, True),
    ],
)
def test_an_error_with_status_200_is_what_its_own_status_says(
    words: BackendWords, has_begun: bool, code: str, status: int, may_have_spent: bool
) -> None:
    """As long as nothing else came."""
    failure = error_in_answer(words, has_begun=has_begun)

    assert (failure.code, failure.upstream_status) == (code, status)
    assert (failure.may_have_spent, failure.client_message) == (may_have_spent, words.message)


def test_what_a_backend_says_of_our_key_is_for_us() -> None:
    """The client cannot change it."""
    failure = refusal(401, "status 401", BackendWords("Incorrect API key", "invalid_api_key"))

    assert (failure.client_message, failure.words.code) == ("the backend answered 401", None)


@pytest.mark.parametrize(
    ("seconds", "milliseconds", "hint_ms"),
    [("7", None, 7_000), ("7", "1500", 1_500), (None, "20.4", 20), ("7", "soon", 7_000), (None, "9" * 500, None)],
)  # fmt: skip
def test_milliseconds_are_more_exact_than_seconds(
    seconds: str | None, milliseconds: str | None, hint_ms: int | None
) -> None:
    """OpenAI and Azure send both."""
    assert foreign.retry_hint_ms(seconds, milliseconds, 0) == hint_ms


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["error", "errors", "message", "detail", "code", "param", "type", "status", "loc", "msg"]),
        inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(_JSON, st.binary(max_size=50))
def test_no_shape_raises(value: Any, body: bytes) -> None:
    """All that comes out is bounded text."""
    for words in (words_of(value), words_of_body(body), words_of_body(json.dumps(value).encode())):
        for text in (words.message, words.code, words.param, words.type) if words else ():
            assert text is None or (isinstance(text, str) and len(text) <= 500)

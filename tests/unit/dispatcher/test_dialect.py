"""What a backend's refusal of a field teaches, and what it does not (faults C10)."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from dispatcher.operations.dialect import AS_IT_IS, Dialect, lesson
from dispatcher.operations.openai_json import encode
from dispatcher.work import Choice
from schemas.entities import Backend

PLAIN: Final = ("model", "messages", "max_tokens")
STREAM: Final = (*PLAIN, "stream", "stream_options")
NEWER: Final = ("model", "messages", "max_completion_tokens")

OPENAI: Final = {
    "error": {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.",
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
}
"""https://github.com/BerriAI/litellm/issues/13381"""
AZURE: Final = {
    "error": {"message": "Unrecognized request argument supplied: max_completion_tokens"}
}
"""https://github.com/openai/openai-python/issues/1768, an api-version before 2024-09-01"""


def _pydantic(*fields: str) -> dict[str, Any]:
    """FastAPI's 422 of a model with ``extra="forbid"``, as Mistral's API sends it."""
    msg = "Extra inputs are not permitted"
    return {
        "detail": [
            {"type": "extra_forbidden", "loc": ["body", field], "msg": msg, "input": 1}
            for field in fields
        ]
    }


def _lesson(
    said: Any, sent: tuple[str, ...], spoken: Dialect = AS_IT_IS, *, unlimited: bool = False
) -> Dialect | None:
    raw = said.encode() if isinstance(said, str) else json.dumps(said).encode()
    return lesson(raw, sent, spoken, may_be_unlimited=unlimited)


@pytest.mark.parametrize(
    ("said", "sent", "learned"),
    [
        (OPENAI, PLAIN, Dialect("max_completion_tokens")),
        (OPENAI["error"]["message"], PLAIN, Dialect("max_completion_tokens")),
        (_pydantic("max_completion_tokens"), NEWER, Dialect("max_tokens")),
        (AZURE, NEWER, Dialect("max_tokens")),
        (_pydantic("max_tokens"), PLAIN, Dialect("max_completion_tokens")),
        (_pydantic("stream_options"), STREAM, Dialect(stream_options=False)),
        ({"detail": "stream_options is not supported"}, STREAM, Dialect(stream_options=False)),
        ("got an unexpected keyword argument 'stream_options'", STREAM, Dialect(None, False)),
        ({"error": "Unknown parameter: 'stream_options'."}, STREAM, Dialect(None, False)),
        (_pydantic("stream_options", "max_tokens"), STREAM, Dialect(stream_options=False)),
    ],
)
def test_a_refusal_that_names_a_field_as_unknown_teaches(
    said: Any, sent: tuple[str, ...], learned: Dialect
) -> None:
    """In whatever shape it says so."""
    assert _lesson(said, sent) == learned


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 4096 tokens, you requested 4100 (90 in max_tokens).",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        "`max_tokens` must be greater than `thinking.budget_tokens`: unsupported",
        "Unsupported value: 'temperature' does not support 0.2 with this model.",
        "Unknown model",
        "",
        "\udcff max_tokens",
    ],
)
def test_a_refusal_of_anything_else_teaches_nothing(said: str) -> None:
    """A value that is too large is the client's to change; without its limit the call would be another one."""
    raw = said.encode("utf-8", "surrogateescape")

    assert lesson(raw, STREAM, AS_IT_IS, may_be_unlimited=True) is None


def test_a_field_that_was_not_sent_teaches_nothing() -> None:
    """Whatever the backend says of it."""
    assert _lesson(_pydantic("stream_options"), PLAIN) is None
    assert _lesson(OPENAI, ("model", "messages"), unlimited=True) is None


@pytest.mark.parametrize("unlimited", [False, True])
def test_a_limit_that_nobody_obeys_is_left_out_only_where_nobody_counts_on_it(
    unlimited: bool,  # a case
) -> None:
    """What is held is proved by the limit that was sent."""
    spoken = Dialect("max_completion_tokens")
    found = _lesson(_pydantic("max_completion_tokens"), NEWER, spoken, unlimited=unlimited)

    assert found == (Dialect("none") if unlimited else None)


def test_another_name_is_not_tried_at_a_backend_that_may_ignore_it() -> None:
    """One that refuses ``max_tokens`` without a word of another name may make any number of tokens."""
    said = "max_tokens is not supported"

    assert _lesson(said, PLAIN) is None
    assert _lesson(said, PLAIN, unlimited=True) == Dialect("max_completion_tokens")


def test_every_lesson_ends() -> None:
    """A backend that refuses everything is asked four times at most."""
    everything = _pydantic("stream_options", "max_tokens", "max_completion_tokens")
    spoken, tries = AS_IT_IS, 1
    while True:
        sent = dict.fromkeys(STREAM)
        spoken.apply(sent)
        found = _lesson(everything, tuple(sent), spoken, unlimited=True)
        if found is None:
            break
        spoken, tries = found, tries + 1

    assert (spoken, tries) == (Dialect("none", stream_options=False), 4)


@pytest.mark.parametrize(
    ("dialect", "sent"),
    [
        (Dialect("max_completion_tokens"), {"max_completion_tokens": 7}),
        (Dialect("max_tokens"), {"max_tokens": 7}),
        (Dialect("none"), {}),
    ],
)
@pytest.mark.parametrize("asked", ["max_tokens", "max_completion_tokens"])
def test_the_limit_keeps_its_value_under_another_name(
    dialect: Dialect, sent: dict[str, int], asked: str
) -> None:
    """And every other field stays."""
    choice = Choice("b1", Backend(url="http://127.0.0.1:9"), None)
    body = encode(json.dumps({"model": "m", asked: 7, "seed": 2**70}).encode(), choice, dialect)

    assert json.loads(body) == {"model": "m", "seed": 2**70, **sent}

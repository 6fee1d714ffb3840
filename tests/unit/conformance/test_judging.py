"""What answers say of a backend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.conformance import judging
from deploy.conformance.answers import Answer
from deploy.conformance.judging import Finding
from deploy.conformance.questions import about_chat, about_limits, about_models, about_rest

_ALL = (about_models(), *about_limits("m"), about_chat("m"), *about_rest("m", "max_tokens", 10))
_REFUSED = Answer(400, {}, b'{"error":{"message":"Unsupported parameter: \'max_tokens\'"}}')


def _completion(*, used: int | None = 7, finish: str = "stop", **message: Any) -> Answer:
    document: dict[str, Any] = {
        "choices": [
            {"message": {"role": "assistant", "content": "yes", **message}, "finish_reason": finish}
        ]
    }
    if used is not None:
        document["usage"] = {"prompt_tokens": 11, "completion_tokens": used}
    return Answer(200, {"content-type": "application/json"}, json.dumps(document).encode())


def _stream(*events: str, **more: Any) -> Answer:
    body = "".join(f"data: {event}\n\n" for event in events)
    return Answer(200, {"content-type": "text/event-stream"}, body.encode(), **more)


_DELTA = '{"choices":[{"delta":{"content":"a"}}]}'
_USAGE = '{"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7}}'


def _says(found: tuple[Finding, ...]) -> Mapping[str, str]:
    return {finding.about: finding.says for finding in found}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (_completion(used=16, finish="length"), "yes"),
        (_completion(used=7), "yes"),
        (_completion(used=17), "ignored"),
        (_completion(used=None, finish="length"), "yes"),
        (_completion(used=None), "unknown"),
        (_REFUSED, "refused"),
        (Answer(422, {}, b'{"detail":"extra"}'), "refused"),
        (Answer(401, {}, b""), "unknown"),
        (Answer(404, {}, b'{"error":"model not found"}'), "unknown"),
        (Answer(429, {}, b""), "unknown"),
        (Answer(500, {}, b""), "unknown"),
        (Answer(200, {}, b"<html>"), "unknown"),
        (Answer(ended="late", why="no answer"), "unknown"),
    ],
)
def test_a_limit_is_kept_ignored_refused_or_not_known(answer: Answer, says: str) -> None:
    """A backend that is busy, wants a key or has no such model refuses no field."""
    assert _says(judging.judge_limit("max_tokens", 16)(answer))["max_tokens"] == says


def test_a_refused_field_is_told_in_the_backends_words() -> None:
    """It says which one to use instead."""
    (finding,) = judging.judge_limit("max_tokens", 16)(_REFUSED)

    assert finding.detail == "400 Unsupported parameter: 'max_tokens'"


def test_a_completion_tells_of_usage_and_reasoning() -> None:
    """Whatever it was asked for."""
    says = _says(judging.judge_chat(_completion(reasoning_content="hm")))

    assert says == {"chat": "yes", "usage": "yes", "reasoning fields": "yes"}
    assert _says(judging.judge_chat(_completion(used=None)))["usage"] == "no"
    assert _says(judging.judge_chat(Answer(404, {}, b"no such page")))["chat"] == "no"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            _stream(_DELTA, _USAGE, "[DONE]"),
            {"stream": "yes", "usage in streams, asked for": "yes"},
        ),
        (_stream(_DELTA, "[DONE]"), {"stream": "yes", "usage in streams, asked for": "no"}),
        (_REFUSED, {"stream_options": "refused"}),
        (Answer(500, {}, b""), {"stream": "no"}),
        (_completion(), {"stream": "no"}),
    ],
)
def test_a_stream_shows_whether_it_takes_options_and_tells_usage(
    answer: Answer, says: dict[str, str]
) -> None:
    """A refusal is of the options, since the same stream without them is asked for as well."""
    found = _says(judging.judge_stream(asked_for_usage=True)(answer))

    assert {about: found.get(about) for about in says} == says


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (_stream(_DELTA, "[DONE]"), "ends with [DONE]"),
        (_stream(_DELTA), "ends without [DONE]"),
        (_stream(_DELTA, ended="late", why="late"), "did not end by itself (late)"),
        (Answer(200, {}, f"data: {_DELTA}".encode()), "ends without [DONE], as no type"),
    ],
)
def test_how_a_stream_ends_is_told(answer: Answer, detail: str) -> None:
    """One that stays open is felt by every client."""
    assert judging.judge_stream(asked_for_usage=False)(answer)[0].detail == detail


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (_completion(tool_calls=[{"id": "t"}]), "yes"),
        (_completion(), "ignored"),
        (_REFUSED, "refused"),
        (Answer(503, {}, b""), "unknown"),
    ],
)
def test_tools_are_called_ignored_or_refused(answer: Answer, says: str) -> None:
    """The request demands a call."""
    assert _says(judging.judge_tools(answer)) == {"tools": says}


def test_an_error_is_told_with_its_shape() -> None:
    """Only one of them is understood by clients."""
    (refused,) = judging.judge_error("wrong model")(Answer(404, {}, b'{"detail":"no such model"}'))
    (answered,) = judging.judge_error("wrong model")(_completion())

    assert refused == Finding("wrong model", "refused", "404 no such model (detail)")
    assert answered.says == "answered"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"error":{"message":"maximum context length is 4096","code":400}}', "refused"),
        (b'{"error":{"message":"no","code":"context_length_exceeded"}}', "refused"),
        (b'{"error":{"message":"bad request"}}', "unknown"),
    ],
)
def test_a_prompt_that_is_too_long_must_be_told_from_other_errors(body: bytes, says: str) -> None:
    """Programs shorten it and try again."""
    assert _says(judging.judge_too_long(Answer(400, {}, body))) == {"too long a prompt": says}


def test_models_that_need_another_name_here_are_named() -> None:
    """Discovery cannot add them by themselves."""
    body = json.dumps({"data": [{"id": "llama"}, {"id": "/models/x"}, {"id": 7}, "y"]}).encode()
    (finding,) = judging.judge_models(Answer(200, {}, body))

    assert finding.detail == "2: llama, /models/x; needs a name of its own here: /models/x"
    assert _says(judging.judge_models(Answer(200, {}, b'{"models":[]}'))) == {"lists models": "no"}


@given(
    status=st.sampled_from([0, 200, 400, 401, 404, 422, 429, 500]),
    body=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "message", "delta", "usage", "error", "data", "id", "detail"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
    form=st.sampled_from(["application/json", "text/event-stream", ""]),
)
def test_no_answer_makes_a_judge_fail(status: int, body: bytes, form: str) -> None:
    """Each says something of each."""
    for framed in (body, b"data: " + body + b"\n\n"):
        answer = Answer(status, {"content-type": form}, framed)
        for question in _ALL:
            assert question.judge(answer)

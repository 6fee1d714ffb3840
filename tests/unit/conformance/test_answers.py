"""What is read of an answer, in the forms that servers use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.conformance.answers import Answer, Usage

_EVENT = '{"choices":[{"delta":{"content":"a"}}]}'
_USED = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def _json(document: object, status: int = 200) -> Answer:
    return Answer(status, {"content-type": "application/json"}, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("document", "shape", "words"),
    [
        ({"error": {"message": "too hot", "type": "x"}}, "openai", "too hot"),
        ({"error": "model not found"}, "error text", "model not found"),
        ({"object": "error", "message": "bad", "code": 400}, "flat", "bad"),
        ({"detail": "at most 2"}, "detail", "at most 2"),
        ({"detail": [{"loc": ["body"], "msg": "Extra inputs"}]}, "detail", "Extra inputs"),
        ({"object": "error", "message": {"detail": [{"msg": "Extra"}]}}, "flat", "Extra"),
        ({"message": "no"}, "message", "no"),
        ({"error": {"message": None}}, "other JSON", '{"error": {"message": null}}'),
    ],
)
def test_an_error_is_read_in_every_shape_that_servers_use(
    document: dict[str, Any], shape: str, words: str
) -> None:
    """OpenAI, Ollama, vLLM before 0.10, FastAPI, Mistral."""
    answer = _json(document, 400)

    assert (answer.error_shape, answer.complaint) == (shape, words)


@pytest.mark.parametrize(
    ("body", "shape"),
    [(b"", "empty"), (b" \n", "empty"), (b"<html>", "text"), (b"\xff\xfe", "text")],
)
def test_what_is_no_json_is_text_or_nothing(body: bytes, shape: str) -> None:
    """Also where it is no UTF-8."""
    assert Answer(400, {}, body).error_shape == shape


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_stream_is_read_as_the_standard_says(end: str, mark: str) -> None:
    """WHATWG: three line ends, a byte order mark, comments, no space after the colon, an event in two lines."""
    lines = [
        f"data:{_EVENT}",
        "",
        ": ping",
        "",
        'data: {"choices":',
        "data: []}",
        "",
        "data: [DONE]",
    ]
    answer = Answer(200, {"content-type": "text/event-stream"}, (mark + end.join(lines)).encode())

    assert list(answer.events) == [json.loads(_EVENT), {"choices": []}]
    assert list(answer.deltas()) == [{"content": "a"}, {}]
    assert answer.says_done


def test_the_last_whole_counts_of_a_stream_are_its_usage() -> None:
    """Some servers send running counts with each event."""
    events = [{"usage": {**_USED, "completion_tokens": n}} for n in (1, 7)] + [{"usage": None}]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)

    assert Answer(200, {}, body.encode()).usage == Usage(11, 7)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (_USED, "11 in, 7 out"),
        ({"prompt_tokens": 11.0, "completion_tokens": 7.0}, "11 in, 7 out"),
        (
            {
                **_USED,
                "prompt_cache_hit_tokens": 8,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            "11 in, 7 out; also completion_tokens_details.reasoning_tokens, prompt_cache_hit_tokens",
        ),
        ({**_USED, "prompt_tokens_details": None, "cached_tokens": 0}, "11 in, 7 out"),
        ({"prompt_tokens": float("inf"), "completion_tokens": 7}, "-1 in, 7 out"),
        ({"total_tokens": 18}, "None"),
        ([], "None"),
    ],
)
def test_usage_names_the_dialect_that_it_is_written_in(usage: object, read: str) -> None:
    """What is not plain prompt and completion is named, if it is not nothing."""
    assert str(_json({"usage": usage}).usage) == read


@pytest.mark.parametrize(
    "document",
    [[], 7, {"choices": {}}, {"choices": [7]}, {"choices": [{"message": []}]}, {"choices": None}],
)
def test_what_looks_like_no_completion_has_no_message(document: object) -> None:
    """And reading it fails nowhere."""
    answer = _json(document)

    assert answer.message == {}
    assert answer.finish_reasons == set()
    assert answer.usage is None

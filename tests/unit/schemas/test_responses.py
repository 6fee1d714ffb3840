"""How a response reads that a chat completion makes, and what it is called."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ingress.apis.openai.responses.answers import ResponseFormat
from ingress.apis.openai.responses.shown import NOTHING_SHOWN
from ingress.http.refusals import Refusal
from schemas.choices import first_choice
from schemas.frames import Terminal
from schemas.responses import request_id_of, response_id, response_status

_ID = "01a21c61-ab26-7c6f-a43e-9bb1c946b8aa"


def _completion(finish_reason: Any, **choice: Any) -> bytes:
    said = {"message": {"role": "assistant", "content": "hi"}} | choice
    return msgspec.json.encode({"choices": [{**said, "finish_reason": finish_reason}]})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (_completion("stop"), "completed"),
        (_completion("tool_calls"), "completed"),
        (_completion(None), "completed"),
        (_completion(["length"]), "completed"),
        (_completion("length"), "incomplete"),
        (_completion("content_filter"), "incomplete"),
        (_completion("length", message=None, delta={"content": "hi"}), "incomplete"),
        (b'{"choices": {"message": {"content": "hi"}, "finish_reason": "length"}}', "incomplete"),
        (_completion("stop", message=None), "failed"),
        (b'{"choices": []}', "failed"),
        (b"[" * 100_000, "failed"),
        (b"", "failed"),
    ],
)
def test_what_is_told_of_a_response_is_what_is_read_of_it(body: bytes, status: str) -> None:
    """By whoever tells its end without its answer, and by the ingress that shows it: any answer, one status."""
    shown = ResponseFormat(_ID, "echo", bytes(NOTHING_SHOWN.members)).body(
        Terminal(http_status=200, body=body)
    )

    assert response_status(body) == status
    read = "failed" if isinstance(shown, Refusal) else msgspec.json.decode(shown)["status"]
    assert read == status


def test_the_first_choice_that_says_anything_is_the_answer() -> None:
    """As whoever translates it reads it."""
    found = first_choice(b'{"choices": [{"message": null}, 7, {"delta": {"content": "b"}}]}')

    assert found is not None
    assert found.said == {"content": "b"}


def test_a_response_is_called_as_its_request() -> None:
    """So that either is found by the other; what is no such id names nothing."""
    assert request_id_of(response_id(_ID)) == _ID
    assert request_id_of("resp_1") is None

"""Every operation is whole: both halves are bound, and what its row says is what they do."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.apis.bindings import BINDINGS, parse_body
from ingress.apis.parsed_request import ParsedRequest
from ingress.auth.api_key import Caller
from ingress.http.refusals import Refusal
from schemas.operations import OPERATIONS
from tests.support.configuration import snapshot

CALLER = Caller("k", "acme", None, None, None)
_MESSAGES = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat.completions": {"model": "echo", "messages": _MESSAGES},
    "inference": {
        "request_id": "7f2c1c9e-2f5e-4f0e-9a57-0a3d2c1b4e5f",
        "model": "echo",
        "payload": "hi",
    },
    "jobs": {"model": "echo", "messages": _MESSAGES},
}
"""The least that each operation takes."""


def test_every_operation_is_bound_in_ingress() -> None:
    """And nothing else is."""
    assert BINDINGS.keys() == BODIES.keys() == OPERATIONS.keys()


def test_names_and_paths_are_each_their_own() -> None:
    """A name is the route in the log, a path is one operation's."""
    assert {name: row.name for name, row in OPERATIONS.items()} == {name: name for name in BODIES}
    assert len({row.path for row in OPERATIONS.values()}) == len(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_tokens_are_bound_as_the_row_says(name: str) -> None:
    """What is bound by its input makes no output."""
    parsed = parse_body(OPERATIONS[name], BODIES[name], snapshot(), CALLER)

    assert isinstance(parsed, ParsedRequest)
    assert parsed.call.input_tokens_bound > 0
    is_input_only = OPERATIONS[name].bounded_by == "input"
    assert (parsed.call.output_tokens_bound == 0) == is_input_only


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_streams_only_if_its_row_says_so(name: str) -> None:
    """400 that names the field, else a call that streams."""
    row = OPERATIONS[name]
    parsed = parse_body(row, {**BODIES[name], "stream": True}, snapshot(), CALLER)

    if row.streams:
        assert isinstance(parsed, ParsedRequest)
        assert parsed.call.stream
    else:
        assert isinstance(parsed, Refusal)
        assert (parsed.status, parsed.param) == (400, "stream")

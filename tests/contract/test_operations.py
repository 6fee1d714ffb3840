"""Every operation is whole: both halves are bound, and what its row says is what they do."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from dispatcher.operations import bindings as dispatching
from dispatcher.operations.binding import Unaskable
from ingress.apis.bindings import BINDINGS
from ingress.apis.parsed_request import ParsedRequest
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from ingress.http.request import Preference
from ingress.requests.validation import Circumstances, validate
from schemas.operations import OPERATIONS, UpstreamProtocol
from tests.support.calls_in_code import parsed_files
from tests.support.configuration import snapshot
from tests.support.events import accepted

CALLER = Caller("k", "acme", None, None, None)
_MESSAGES = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat.completions": {"model": "echo", "messages": _MESSAGES},
    "completions": {"model": "echo", "prompt": "hi"},
    "embeddings": {"model": "echo", "input": "hi"},
    "responses": {"model": "echo", "input": "hi"},
    "messages": {"model": "echo", "max_tokens": 9, "messages": _MESSAGES},
    "inference": {
        "request_id": "7f2c1c9e-2f5e-4f0e-9a57-0a3d2c1b4e5f",
        "model": "echo",
        "payload": "hi",
    },
    "jobs": {"model": "echo", "messages": _MESSAGES},
}
"""The least that each operation takes."""


def _parsed(name: str, body: dict[str, Any]) -> ParsedRequest | Refusal:
    said = Circumstances(1_000, 1_000, key=None, preference=Preference(), traceparent=None)
    encoded = json.dumps(body).encode()
    parse = BINDINGS[name].parse
    checked = validate(OPERATIONS[name], parse, CALLER, said, encoded, snapshot(), 0)
    return checked if isinstance(checked, Refusal) else checked.parsed


def test_every_operation_is_bound_on_both_sides() -> None:
    """And nothing else is."""
    assert BINDINGS.keys() == dispatching.BINDINGS.keys() == OPERATIONS.keys() == BODIES.keys()


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_dispatcher_reads_streams_of_what_streams(name: str) -> None:
    """A job is a chat completion, so that a binding may be able to do more than its row says."""
    assert dispatching.BINDINGS[name].stream is not None or not OPERATIONS[name].streams


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_a_path_at_backends_of_openais_protocol(name: str) -> None:
    """Below a backend's URL, so without a slash in front; at others where their protocol has something like it."""
    paths = OPERATIONS[name].upstream_paths

    assert {"openai"} <= paths.keys() <= set(get_args(UpstreamProtocol))
    assert all(path and not path.startswith("/") for path in paths.values())


@pytest.mark.parametrize("protocol", get_args(UpstreamProtocol))
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_bound_where_it_has_a_path(name: str, protocol: UpstreamProtocol) -> None:
    """And nowhere else."""
    row = OPERATIONS[name]
    if protocol in row.upstream_paths:
        binding = dispatching.binding_of(accepted(route=name), protocol, 0)
        assert binding.stream is not None or not row.streams
    else:
        with pytest.raises(Unaskable):
            dispatching.binding_of(accepted(route=name), protocol, 0)


def test_names_and_paths_are_each_their_own() -> None:
    """A name is the route in the log, a path is one operation's."""
    assert {name: row.name for name, row in OPERATIONS.items()} == {name: name for name in BODIES}
    assert len({row.path for row in OPERATIONS.values()}) == len(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_tokens_are_bound_as_the_row_says(name: str) -> None:
    """What is bound by its input makes no output."""
    parsed = _parsed(name, BODIES[name])

    assert isinstance(parsed, ParsedRequest)
    assert parsed.call.input_tokens_bound > 0
    is_input_only = OPERATIONS[name].bounded_by == "input"
    assert (parsed.call.output_tokens_bound == 0) == is_input_only


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_streams_only_if_its_row_says_so(name: str) -> None:
    """400 that names the field, else a call that streams."""
    row = OPERATIONS[name]
    parsed = _parsed(name, {**BODIES[name], "stream": True})

    if row.streams:
        assert isinstance(parsed, ParsedRequest)
        assert parsed.call.stream
    else:
        assert isinstance(parsed, Refusal)
        assert (parsed.status, parsed.param) == (400, "stream")


_MAY_NAME = {
    "schemas/operations.py",
    "ingress/apis/bindings.py",
    "dispatcher/operations/bindings.py",
    "deploy/bench/requests.py",
    "deploy/conformance/questions.py",
    "deploy/embedded/banner.py",
    "deploy/embedded/example_backend.py",
    "deploy/reference/openapi/public_routes.py",
}
"""The row, the two bindings, and those that speak HTTP themselves: three clients and a backend."""
_ANOTHER_MEANING = {
    ("schemas/ledger/keys.py", "jobs"),
    ("schemas/runtime/ledger/script.py", "jobs"),
    ("schemas/gen_ai.py", "completions"),
    ("schemas/gen_ai.py", "embeddings"),
    ("deploy/reference/openapi/document.py", "responses"),
    ("deploy/reference/openapi/page.py", "responses"),
    ("deploy/reference/openapi/webhook_events.py", "responses"),
    ("deploy/reference/budget_service_page.py", "responses"),
    ("deploy/reference/user_org_openapi.py", "responses"),
    ("ingress/http/paths.py", "/completions"),
}
"""The ledger's list of jobs, and its function that reads it; what the conventions for generative AI call an operation;
what an OpenAPI document calls the answers of one; what OpenAI calls the usage of all that models were asked."""


_FIELDS_TOO = {"messages"}
"""Names that are those of a body's field, too: their paths tell them apart."""


def _texts(tree: ast.AST) -> Iterator[str]:
    """The strings of a module, also in f-strings, without its docstrings."""
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def _names_operation(text: str) -> bool:
    return any(
        (text == row.name and text not in _FIELDS_TOO)
        or row.path in text
        or any(
            (text == path and text not in _FIELDS_TOO) or re.search(rf"/{path}(?![\w.])", text)
            for path in row.upstream_paths.values()
        )
        for row in OPERATIONS.values()
    )


def test_an_operation_is_named_in_its_row_and_its_bindings_only() -> None:
    """Everything else takes names and paths from the row."""
    naming = {
        (path, text)
        for path, tree in parsed_files()
        if path not in _MAY_NAME
        for text in _texts(tree)
        if _names_operation(text)
    }

    assert naming == _ANOTHER_MEANING

"""The table of questions, what it may spend, and what is made of the answers."""

from __future__ import annotations

import json

import msgspec
import pytest

from deploy.conformance.entry import entry_of, limit_field
from deploy.conformance.judging import Finding, Word
from deploy.conformance.names import backend_id, is_id, model_id
from deploy.conformance.questions import (
    LimitField,
    about_chat,
    about_limits,
    about_models,
    about_rest,
    spend,
)
from schemas.entities import Backend, Model

_URL = "http://127.0.0.1:8000/v1"
_CHAT = Finding("chat", "yes")


def test_every_question_that_can_cost_output_states_its_bound() -> None:
    """In the field that was found to work."""
    for question in [*about_limits("m"), *about_rest("m", "max_completion_tokens", 10)]:
        if question.output_tokens:
            body = json.loads(question.body or b"")
            stated = body.get("max_tokens") or body.get("max_completion_tokens")
            assert stated == question.output_tokens, question.name


def test_a_check_spends_little() -> None:
    """A dozen questions, some hundred tokens; a long prompt only where the context was named."""
    plain = spend([about_models(), *about_limits("m"), *about_rest("m", "max_tokens")])
    long = spend([*about_rest("m", "max_tokens", 4_096)])

    assert plain.questions == 11
    assert plain.output_tokens < 300
    assert plain.input_tokens < 2_000
    assert long.input_tokens > 4_096


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", None])
def test_a_body_names_no_other_limit_than_the_one_that_works(field: LimitField | None) -> None:
    """A strict server would refuse the whole question."""
    for question in about_rest("m", field):
        names = {"max_tokens", "max_completion_tokens"} & set(_fields(question.body))
        assert names <= {field}, question.name
    assert "max_tokens" not in _fields(about_chat("m").body)


def _fields(body: bytes | None) -> list[str]:
    try:
        return list(json.loads(body or b"{}"))
    except ValueError:
        return []


@pytest.mark.parametrize(
    ("older", "newer", "field"),
    [
        ("yes", "yes", "max_tokens"),
        ("refused", "yes", "max_completion_tokens"),
        ("ignored", "yes", "max_completion_tokens"),
        ("unknown", "yes", "max_completion_tokens"),
        ("unknown", "refused", "max_tokens"),
        ("refused", "refused", None),
    ],
)
def test_the_limit_field_is_the_one_that_is_kept(
    older: Word, newer: Word, field: LimitField | None
) -> None:
    """The older where both are."""
    found = [Finding("max_tokens", older), Finding("max_completion_tokens", newer)]

    assert limit_field(found) == field


def test_an_entry_is_a_configuration_that_the_gateway_takes() -> None:
    """A name that cannot be an id stands where the backend is asked."""
    entry = entry_of(_URL, "gpu", "BACKEND_GPU_API_KEY", "/models/My Model", [_CHAT])

    assert msgspec.convert(entry.backend, Backend) == Backend(_URL, "BACKEND_GPU_API_KEY")
    assert entry.model_name == "models/My-Model"
    (target,) = msgspec.convert(entry.model, Model).backends
    assert (target.backend, target.upstream_model) == ("gpu", "/models/My Model")


@pytest.mark.parametrize(
    ("older", "newer", "field"),
    [
        ("yes", "yes", None),
        ("refused", "yes", "max_completion_tokens"),
        ("ignored", "yes", "max_completion_tokens"),
        ("yes", "refused", "max_tokens"),
        ("yes", "unknown", None),
        ("refused", "unknown", None),
        ("refused", "refused", "none"),
        ("ignored", "refused", "none"),
    ],
)
def test_an_entry_names_the_limit_where_not_every_name_will_do(
    older: Word, newer: Word, field: str | None
) -> None:
    """A backend that ignores it bounds nothing: what is held then is the whole context."""
    found = [_CHAT, Finding("max_tokens", older), Finding("max_completion_tokens", newer)]
    model = msgspec.convert(entry_of(_URL, "gpu", None, "m", found, 4_096).model, Model)

    assert (model.output_limit_field, model.context_window_tokens) == (field, 4_096)


def test_an_entry_without_a_known_context_names_no_limit_that_holds_nothing() -> None:
    """The gateway would refuse the entry; a note says what is missing."""
    found = [_CHAT, Finding("max_tokens", "ignored"), Finding("max_completion_tokens", "ignored")]
    entry = entry_of(_URL, "gpu", None, "m", found)

    assert msgspec.convert(entry.model, Model).output_limit_field is None
    assert any("--context-tokens" in note for note in entry.notes)


@pytest.mark.parametrize(("says", "takes"), [("yes", True), ("refused", False)])
def test_an_entry_says_whether_stream_options_are_taken(says: Word, takes: bool) -> None:
    """So that no stream is asked for twice."""
    entry = entry_of(_URL, "gpu", None, "m", [_CHAT, Finding("stream_options", says)])

    assert msgspec.convert(entry.backend, Backend).stream_options is takes


def test_a_key_variable_that_the_dispatcher_does_not_read_is_not_written() -> None:
    """It is said, though."""
    entry = entry_of(_URL, "gpu", "OPENAI_API_KEY", "m", [_CHAT])

    assert entry.backend == {"url": _URL}
    assert any("BACKEND_NAME_API_KEY" in note for note in entry.notes)


@pytest.mark.parametrize(
    ("model", "found"), [(None, [_CHAT]), ("m", [Finding("chat", "no")]), ("m", [])]
)
def test_no_model_is_written_that_did_not_answer(model: str | None, found: list[Finding]) -> None:
    """The backend alone is."""
    assert entry_of(_URL, "gpu", None, model, found).model is None


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("llama-3:8b", "llama-3:8b"),
        ("@cf/meta/x", "cf/meta/x"),
        ("/models/llama", "models/llama"),
        ("My Model (v2).gguf", "My-Model-v2-.gguf"),
        ("\u2603", "model"),
        ("x" * 300, "x" * 128),
    ],
)
def test_every_model_gets_a_name_that_may_be_an_id(name: str, here: str) -> None:
    """The nearest one."""
    assert model_id(name) == here
    assert is_id(model_id(name))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (_URL, "127-0-0-1-8000"),
        ("https://api.example.com/v1", "api-example-com"),
        ("http://[::1]:8000/v1", "1-8000"),
        ("http://" + "x" * 80 + "/v1", "x" * 63),
    ],
)
def test_a_backend_is_called_after_its_address(url: str, name: str) -> None:
    """As it could be named on the command line."""
    assert backend_id(url) == name
    assert is_id(name)

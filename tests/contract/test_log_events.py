"""The list of log events is complete, nothing in it is unused, and nobody logs past it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from deploy.reference.field_docs import field_docs
from schemas.log_events import LogEvent, LogFields
from tests.support.calls_in_code import method_calls, parsed_files

_LOGGING = {
    "deploy/reference/pages.py",
    "schemas/log_events.py",
    "schemas/runtime/process/event_log.py",
    "schemas/runtime/process/log_lines.py",
}
"""The only files that know the library."""
_EXCEPTIONS = {"error", "defect"}
_OF_A_RECORD = {"place_of", "traced", "of_request"}


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """What the processes say."""
    for path, call, _ in method_calls("event"):
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id == "_LOG":
            yield path, call


def _events(node: ast.AST) -> list[ast.AST]:
    """The event that a call names, or one of two."""
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]


def test_every_event_that_is_said_is_listed_and_every_listed_one_is_said() -> None:
    """By its name in the list, so that a search for the name finds who says it."""
    said = {LogEvent.FOREIGN.name}
    for path, call in _calls():
        for event in _events(call.args[0]):
            assert isinstance(event, ast.Attribute), path
            assert isinstance(event.value, ast.Name), path
            assert event.value.id == "LogEvent", path
            said.add(event.attr)

    assert said == {event.name for event in LogEvent}


def test_fields_are_those_of_the_list() -> None:
    """By keyword, or all of a record by the functions that make them; each of them is used."""
    used = {"text"}
    for path, call in _calls():
        assert len(call.args) == 1, path
        for keyword in call.keywords:
            if keyword.arg is not None:
                used.add(keyword.arg)
                continue
            made_by = keyword.value.func if isinstance(keyword.value, ast.Call) else None
            assert isinstance(made_by, ast.Name), path
            assert made_by.id in _OF_A_RECORD, path

    assert used - _EXCEPTIONS <= set(LogFields.__annotations__)
    assert set(LogFields.__annotations__) - used == {"trace_id"}


def test_no_text_is_put_together() -> None:
    """What varies is a field of its own, or nobody can search for it."""
    for path, call in _calls():
        texts = [node for node in ast.walk(call) if isinstance(node, ast.JoinedStr)]
        assert texts == [], path


def test_nobody_logs_past_the_list() -> None:
    """Only the list, its page, the helper and the formatter know the library."""
    users = {
        path
        for path, tree in parsed_files()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(a.name == "logging" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "logging")
    }

    assert users == _LOGGING


def test_every_event_says_what_it_means_and_what_to_do() -> None:
    """One sentence each, and no two events mean the same."""
    for event in LogEvent:
        assert event.value.meaning.endswith("."), event
        assert event.value.action.endswith("."), event
    assert len(LogEvent) == len(LogEvent.__members__)


def test_every_field_says_what_it_means() -> None:
    """In the list, which the reference repeats."""
    assert set(field_docs(LogFields)) == set(LogFields.__annotations__)

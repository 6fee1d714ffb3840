"""Facts that cross processes stand once: what Lua says of them is what Python says."""

from __future__ import annotations

import ast
import re
from typing import Final, get_args

import pytest

from schemas import topics
from schemas.ledger import states
from schemas.runtime.ledger.script import library
from schemas.topics import READ_BY, TOPICS
from schemas.usage import cell
from tests.support.calls_in_code import parsed_files

_SOURCE: Final = library()
_TABLE: Final = re.compile(r"local (\w+) = \{((?:\w+ = true(?:, )?)+)\}")
_STATE: Final = re.compile(r"state'?,? *(?:==|~=|=)? *'([A-Z]+)'")
_WITHDRAWN: Final = re.compile(r"withdraw\(call, attempt, '([A-Z]+)'\)")
_SETS: Final = {
    "LIVE": states.OPEN,
    "UNDER_WAY": states.OPEN,
    "SETTLED": states.SETTLED,
    "NEVER_RAN": states.NEVER_RAN,
}
"""Names of sets of states in Lua, and what they are called here."""


def test_lua_and_python_know_the_same_states() -> None:
    """A state that one of them writes and the other does not know would be decided wrongly."""
    written = set(_STATE.findall(_SOURCE)) | set(_WITHDRAWN.findall(_SOURCE)) | {"BOOKED"}

    assert written == set(get_args(states.State)) - {""}


def test_lua_and_python_draw_the_same_conclusions_from_a_state() -> None:
    """Each set of states, by name."""
    tables = {
        name: set(re.findall(r"[A-Z]+(?= = true)", body)) for name, body in _TABLE.findall(_SOURCE)
    }
    found = {name: states_ for name, states_ in tables.items() if name in _SETS}

    assert found == _SETS


def test_lua_and_python_name_a_cell_alike() -> None:
    """The one place in Lua that joins a row and its measure."""
    joined = re.findall(r"line\.row \.\. '(.*?)' \.\. measure", _SOURCE)

    assert [cell("row", "measure")] == [
        "row" + each.replace("\\t", "\t") + "measure" for each in joined
    ]


def _read_by(role: str) -> set[str]:
    """Topics that the role's composition root hands to an inbox: ``worker.read(topics.<NAME>, ...)``."""
    ((_, tree),) = [(path, tree) for path, tree in parsed_files() if path == f"{role}/app.py"]
    return {
        getattr(topics, node.args[0].attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "read"
        and isinstance(node.args[0], ast.Attribute)
    }


@pytest.mark.parametrize("role", READ_BY)
def test_a_role_reads_the_topics_that_are_said_to_be_its_own(role: str) -> None:
    """Whoever asks how far a group is behind asks for these."""
    assert _read_by(role) == set(READ_BY[role])


def test_every_topic_of_requests_and_outcomes_is_read_by_one_role() -> None:
    """What nobody reads would never end; what two read would end twice."""
    read = [topic for own in READ_BY.values() for topic in own]
    on_their_way = {
        topic.name
        for topic in TOPICS
        if set(topic.records) & {"RequestAccepted", "RequestAdmitted", "RequestFinished"}
    }

    assert len(read) == len(set(read))
    assert set(read) == on_their_way

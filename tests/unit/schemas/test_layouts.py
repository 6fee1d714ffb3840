"""A layout finds in a record what a decoder reads there, or nothing."""

from __future__ import annotations

import io

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.layouts import layout_of, number_in, text_in

_ITEM = {
    "type": "record",
    "name": "Item",
    "namespace": "test",
    "fields": [{"name": "word", "type": "string"}, {"name": "count", "type": "long"}],
}
_SCHEMA = {
    "type": "record",
    "name": "Whole",
    "namespace": "test",
    "fields": [
        {"name": "before", "type": ["null", "string"]},
        {"name": "number", "type": "long"},
        {"name": "raw", "type": "bytes"},
        {"name": "items", "type": {"type": "array", "items": _ITEM}},
        {"name": "unread", "type": {"type": "array", "items": "test.Item"}},
        {"name": "one", "type": ["null", "test.Item"]},
        {"name": "maybe", "type": ["null", "int"]},
        {"name": "flag", "type": "boolean"},
        {"name": "gone", "type": ["null", "string"]},
    ],
}
_PARSED = fastavro.parse_schema(_SCHEMA)
_LAYOUT = layout_of(
    _SCHEMA, {"number": (), "items": ("word", "count"), "maybe": ()}, absent=("gone",)
)
_LONG = st.integers(-(2**62), 2**62 - 1)
_SHORT = st.text(st.characters(max_codepoint=127), max_size=127)
_ITEMS = st.fixed_dictionaries({"word": _SHORT, "count": _LONG})
_RECORDS = st.fixed_dictionaries(
    {
        "before": st.none() | _SHORT,
        "number": _LONG,
        "raw": st.binary(max_size=127),
        "items": st.lists(_ITEMS, max_size=63),
        "unread": st.lists(_ITEMS, max_size=4),
        "one": st.none() | _ITEMS,
        "maybe": st.none() | st.integers(-(2**31), 2**31 - 1),
        "flag": st.booleans(),
        "gone": st.none(),
    }
)


def _encoded(fields: dict[str, object]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _PARSED, fields)
    return out.getvalue()


@given(_RECORDS)
def test_what_is_wanted_is_found(fields: dict[str, object]) -> None:
    """Numbers, lists of records, and what is null."""
    found = _LAYOUT.record.fullmatch(_encoded(fields))
    assert found is not None
    assert number_in(found["number"]) == fields["number"]
    maybe = found["maybe"]
    assert (None if maybe is None else number_in(maybe)) == fields["maybe"]
    items = _LAYOUT.items("items", found["items"])
    assert items is not None
    assert [{"word": text_in(w), "count": number_in(n)} for w, n in items] == fields["items"]


_PLAIN: dict[str, object] = {
    "before": None,
    "number": 1,
    "raw": b"",
    "items": [],
    "unread": [],
    "one": None,
}
_REST = {"maybe": None, "flag": False, "gone": None}


@pytest.mark.parametrize(
    "other",
    [
        {"before": "x" * 128},
        {"before": "ä"},
        {"raw": b"x" * 128},
        {"items": [{"word": "", "count": 0}] * 64},
        {"unread": [{"word": "", "count": 0}] * 5},
        {"gone": ""},
        {"number": 2**63 - 1},
    ],
    ids=["long text", "not ASCII", "long bytes", "long list", "long unread", "not null", "64 bits"],
)
def test_what_does_not_fit_is_left_to_the_decoder(other: dict[str, object]) -> None:
    """It is seldom, and a wrong guess would be a wrong sum."""
    assert _LAYOUT.record.fullmatch(_encoded(_PLAIN | _REST | other)) is None


def test_a_list_that_has_not_as_many_items_as_it_says_is_damaged() -> None:
    """The bytes around it would be another field's."""
    found = _encoded({**_PLAIN, **_REST, "items": [{"word": "a", "count": 1}]})
    whole = _LAYOUT.record.fullmatch(found)
    assert whole is not None
    assert _LAYOUT.items("items", b"\x04" + whole["items"][1:]) is None

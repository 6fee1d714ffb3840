"""A stream whose answer is kept amounts to one answer, within a bound."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.attempts import gathered
from dispatcher.attempts.gathered import Gathered, whole_answer


def _event(delta: Any, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: %b\n\n" % json.dumps({"id": "c", "choices": [choice]}).encode()


def test_the_events_of_a_stream_are_one_answer() -> None:
    """Texts and calls, put together."""
    kept = Gathered()
    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{"}}
    kept.add(_event({"role": "assistant", "content": "hi "}) + _event({"content": "there"}))
    kept.add(_event({"tool_calls": [call]}))
    kept.add(_event({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}, "tool_calls"))
    answer = json.loads(whole_answer(kept.taken()))

    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "hi there"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert kept.taken() == b""


def test_too_many_events_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of them, however many follow."""
    monkeypatch.setattr(gathered, "GATHERED_BYTES_MAX", 200)
    kept = Gathered()
    for _ in range(9):
        kept.add(_event({"content": "x"}, "stop"))

    assert kept.taken() == b""


@pytest.mark.parametrize(
    "events", [b"", b"data: x\n\n", b"data: []\n\n", _event({"content": "cut off"}), _event(5)]
)
def test_what_amounts_to_nothing_is_not_kept(events: bytes) -> None:
    """And costs its client nothing, who has had it."""
    assert whole_answer(events) in (b"", whole_answer(events))
    assert b"cut off" not in whole_answer(events)

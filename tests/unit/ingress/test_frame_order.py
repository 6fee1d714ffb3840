"""Which frames are relayed: one fence, in order, each once."""

from __future__ import annotations

import pytest

from ingress.replies.frame_order import Position, Verdict, sequence
from schemas.frames import Chunk, Frame, Started, Terminal

STARTED = Started("b", ())
CHUNK = Chunk(b"data: x\n\n")
OK = Terminal(http_status=200)
FAILED = Terminal(http_status=502, error_code="upstream_interrupted")

RELAY, DROP, GAP, BREAK = Verdict.RELAY, Verdict.DROP, Verdict.GAP, Verdict.BREAK


def _frame(fence: int, seq: int, content: Started | Chunk | Terminal) -> Frame:
    return Frame("r", fence, seq, content)


def _verdicts(*frames: Frame) -> list[Verdict]:
    position, verdicts = Position(), []
    for frame in frames:
        verdict, position = sequence(position, frame)
        verdicts.append(verdict)
    return verdicts


@pytest.mark.parametrize(
    ("frames", "verdicts"),
    [
        ([(5, 1, STARTED), (5, 2, CHUNK), (5, 3, OK)], [RELAY, RELAY, RELAY]),
        ([(0, 1, FAILED)], [RELAY]),
        ([(5, 1, STARTED), (5, 1, STARTED)], [RELAY, DROP]),
        ([(5, 1, STARTED), (5, 3, OK)], [RELAY, GAP]),
        ([(5, 2, CHUNK)], [GAP]),
        ([(5, 1, OK), (5, 2, CHUNK), (6, 1, STARTED)], [RELAY, DROP, DROP]),
        ([(6, 1, STARTED), (5, 1, STARTED), (0, 1, FAILED)], [RELAY, DROP, DROP]),
        ([(5, 1, STARTED), (6, 1, STARTED), (6, 2, CHUNK)], [RELAY, RELAY, RELAY]),
        ([(5, 1, STARTED), (6, 2, CHUNK)], [RELAY, GAP]),
        ([(5, 1, CHUNK), (6, 1, STARTED), (6, 2, CHUNK)], [RELAY, DROP, DROP]),
        ([(5, 1, CHUNK), (6, 1, FAILED), (5, 2, OK)], [RELAY, RELAY, DROP]),
        ([(5, 1, CHUNK), (6, 2, OK)], [RELAY, BREAK]),
    ],
    ids=[
        "in order",
        "refused by the limiter",
        "repeated",
        "one is missing",
        "the first is missing",
        "nothing follows the end",
        "an older fence is stale",
        "a newer fence replaces one that brought no content",
        "a gap under the newer fence",
        "a newer fence never continues content",
        "the error of a newer fence ends the stream",
        "the success of a newer fence breaks the stream off",
    ],
)
def test_frames_are_judged_by_fence_and_number(
    frames: list[tuple[int, int, Started | Chunk | Terminal]], verdicts: list[Verdict]
) -> None:
    """One row for each rule."""
    assert _verdicts(*(_frame(*frame) for frame in frames)) == verdicts


def test_the_cursor_names_the_last_frame_that_was_relayed() -> None:
    """It is where the stream is read on from."""
    _, position = sequence(Position(), _frame(5, 1, STARTED))
    _, at_gap = sequence(position, _frame(5, 3, CHUNK))

    assert (Position().cursor, position.cursor, at_gap.cursor) == ("0-0", "5-1", "5-1")

"""The picture of a trace: every span a row below its parent, errors marked, foreign texts harmless."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

from tests.support.otlp_receiver import Seen
from tests.support.trace_drawing import draw_trace

REQUEST = Seen(
    "ingress", "ingress-0", "POST /v1/x", "server", "t" * 32, "a", "client", 1_000_000, 9_000_000, False, {},
)  # fmt: skip
SEND = replace(REQUEST, name="send t", span_id="b", parent_id="a", started_ns=2_000_000)
FAILED = replace(
    SEND,
    name="chat <m>",
    span_id="c",
    parent_id="b",
    started_ns=3_000_000,
    is_error=True,
    attributes={"error.type": "500", "tallygate.backend": "b&1"},
)


def rows(*spans: Seen) -> list[tuple[str, float]]:
    """The names and how far each is indented."""
    tree = ET.fromstring(draw_trace(list(spans), "a title"))
    texts = [one for one in tree if one.tag.endswith("text") and one.get("class") is None]
    return [(one.text or "", float(one.get("x", ""))) for one in texts]


def test_a_span_stands_below_its_parent_in_the_order_of_time() -> None:
    """However they arrived; one whose parent is elsewhere begins at the edge."""
    (first, at), (second, below), (third, deeper) = rows(FAILED, SEND, REQUEST)

    assert [first, second, third] == ["POST /v1/x", "send t", "chat <m> at b&1"]
    assert at < below < deeper


def test_an_error_is_marked_with_its_type() -> None:
    """In a colour of its own."""
    drawn = draw_trace([REQUEST, FAILED], "a title")

    assert "#e45756" in drawn
    assert "6.0 ms, 500" in drawn


def test_a_trace_without_length_is_drawn_too() -> None:
    """Of one span that took no time."""
    assert rows(replace(REQUEST, ended_ns=REQUEST.started_ns))

"""Whatever users and backends put into names, messages and values: no terminal obeys it."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest

from deploy.cli.output import Output
from schemas.printable import one_line, printable
from tests.unit.cli.commands_with_answers import CASES, Case
from tests.unit.cli.fixed_world import fixed_world
from tests.unit.cli.scripted_admin import Gateway, run, run_to

HOSTILE = (
    "[blink]a[/blink][link=http://evil]b[/link]:smile:"  # Rich's markup and emoji codes
    "\x1b[2J\x1b]0;owned\x07\x1b]8;;http://evil\x1b\\c\x1b]8;;\x1b\\\x1b[5m"  # clear, title, link, blink
    "\x9b31m\x90d\x9c\x00\x08\r\x7f"  # C1: CSI and DCS; NUL, backspace, CR, DEL
    "\N{RIGHT-TO-LEFT OVERRIDE}\N{LEFT-TO-RIGHT ISOLATE}\N{ZERO WIDTH SPACE}\N{ZERO WIDTH JOINER}"
    "\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}\N{HANGUL FILLER}\ufe0f\U000e0100"
    "\N{LINE SEPARATOR}\ud800日本語"
    "e" + "\N{COMBINING ACUTE ACCENT}" * 20 + "\n0:00 forged\trow"
)
LITERAL = "[blink]a[/blink][link=http://evil]b[/link]:smile:"
_IS_MEANT = {"by", "what", "unit", "usd", "period"}
"""Fields whose texts the commands look up or reckon with."""
OUR_STYLES = re.compile(r"\x1b\[(0|1|2|3[1-6]|1;3[1-6])m")


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that wraps nothing and knows colours."""
    monkeypatch.setenv("COLUMNS", "20000")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def poisoned(value: Any, name: str = "") -> Any:
    """The answer with the hostile text in every name and value that it may say."""
    match value:
        case str() if name not in _IS_MEANT:
            return value + HOSTILE
        case list():
            return [poisoned(item, name) for item in value]
        case dict():
            return {key: poisoned(item, key) for key, item in value.items()}
        case _:
            return value


def hostile(case: Case) -> Gateway:
    """A gateway whose every answer, good or bad, is poisoned."""
    return Gateway({asked: poisoned(answer) for asked, answer in case.answers.items()}, case.status)


def is_clean(text: str) -> bool:
    """Whether nothing in it is obeyed, hidden or turned around; CSV ends its lines as RFC 4180 says."""
    return printable(text.replace("\r\n", "\n")) == text.replace("\r\n", "\n")


def printed(case: Case, files: type[io.StringIO]) -> str:
    """What a command prints on both streams."""
    data, story = files(), files()
    with fixed_world({"key": HOSTILE, "value": {HOSTILE: [HOSTILE]}}):
        run_to(hostile(case), Output(data, story, as_json=False), *case.arguments)
    return data.getvalue() + story.getvalue()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_pipe_gets_no_control_character(case: Case) -> None:
    """Not one, and no row that nobody wrote."""
    text = printed(case, io.StringIO)

    assert is_clean(text)
    if not {"--payload", "csv"} & {*case.arguments}:  # texts and quoted fields keep their lines
        assert "\n0:00 forged" not in text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_terminal_gets_no_sequence_but_our_colours(case: Case, wide: None) -> None:
    """Markup, emoji codes and links of others stay text."""
    text = printed(case, Terminal)
    bare = OUR_STYLES.sub("", text)

    assert is_clean(bare)
    assert bare.count(LITERAL) == printed(case, io.StringIO).count(LITERAL)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_who_wants_no_colour_gets_no_sequence_at_all(
    case: Case, wide: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``NO_COLOR`` on a terminal, and a terminal that is dumb."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert is_clean(printed(case, Terminal))

    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert is_clean(printed(case, Terminal))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_json_is_ascii_and_means_what_was_said(case: Case) -> None:
    """DEL and lone surrogates included."""
    with fixed_world({"key": HOSTILE}):
        _, data, story = run(hostile(case), *case.with_json.arguments)

    assert all(char == "\n" or " " <= char <= "~" for char in data)
    assert is_clean(story)
    for line in data.splitlines():
        json.loads(line)


@pytest.mark.parametrize(
    "char",
    [
        *map(chr, [*range(0x20), *range(0x7F, 0xA0)]),
        *"\u061c\u200b\u200e\u200f\u202a\u202e\u2060\u2066\u2069\ufeff",
        *"\u00ad\u034f\u115f\u1160\u17b4\u180b\u180e\u2028\u2029\u3164\ufe00\ufe0f\uffa0",
        *"\U000e0001\U000e0020\U000e0100\ud800\udfff\ufffe\ue000",
    ],
    ids=lambda char: f"U+{ord(char):04X}",
)
def test_a_character_that_is_not_seen_is_shown_as_its_escape(char: str) -> None:
    """Controls, bidirectional marks, fillers, selectors, surrogates, private ones."""
    shown = one_line(f"a{char}b")

    assert shown.isascii()
    assert shown not in (f"a{char}b", "ab")


@pytest.mark.parametrize("text", ["ü", "日本語", "é", "נָּ", "नि", "👍", "ก็"])
def test_what_people_write_stays_as_it_is(text: str) -> None:
    """Marks that belong to a letter included."""
    assert one_line(text) == text


def test_marks_do_not_pile_up_over_other_lines() -> None:
    """Nor stand on what was not theirs."""
    mark = "\N{COMBINING ACUTE ACCENT}"

    assert one_line(mark + "a") == "\\u0301a"
    assert one_line("a" + mark * 6) == "a" + mark * 4 + "\\u0301" * 2

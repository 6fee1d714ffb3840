"""Nothing foreign reaches a terminal as it is, whichever command prints it."""

from __future__ import annotations

import ast
import io
import json

import pytest

from deploy.cli.main import run as run_command
from deploy.cli.output import Exit, Output, shown
from deploy.cli.table import table
from deploy.cli.timeline import timeline_text
from deploy.embedded.banner import render_progress
from deploy.embedded.process import Progress
from deploy.terminal import say
from tests.support.calls_in_code import parsed_files
from tests.unit.cli.commands_with_answers import LETTER
from tests.unit.cli.scripted_admin import Gateway, run

EVIL = "x\x1b[2J\x1b]0;owned\x07\n\N{RIGHT-TO-LEFT OVERRIDE}\x9b31m"
_MAY_PRINT = {
    "deploy/terminal.py",
    "schemas/runtime/process/run.py",
    "schemas/runtime/process/settings.py",
}


def _is_clean(text: str) -> bool:
    return all(char.isprintable() or char in "\n\t" for char in text)


def test_only_one_place_prints() -> None:
    """A command that printed by itself would let foreign text through."""
    printing = {
        path
        for path, tree in parsed_files()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    writing = {
        path
        for path, tree in parsed_files()
        if path.startswith("deploy/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "write"
        and isinstance(node.value, ast.Attribute)
        and node.value.attr in ("stdout", "stderr", "data", "story")
    }

    assert printing <= _MAY_PRINT
    assert writing == set()


def test_a_terminal_that_knows_few_characters_gets_escapes() -> None:
    """And no traceback."""
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    say("✓ ü \ud800", terminal)

    assert raw.getvalue() == b"\\u2713 \\xfc \\ud800\n"


def test_a_cell_is_part_of_one_line() -> None:
    """It forges no row."""
    text = table(("name", "models"), [{"name": EVIL, "models": [EVIL]}]).plain()

    assert len(text.splitlines()) == 2
    assert _is_clean(text)


def test_values_are_cleaned_through_and_through() -> None:
    """Names as well as texts; numbers stay what they are."""
    assert shown({"a\n": ["b\x1b", 1, None]}) == {"a\\n": ["b\\x1b", 1, None]}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("command", "asked", "answer"),
    [
        (
            ("dlq", "list"),
            "GET /dlq",
            {"items": [{"topic": EVIL, "count": 1, "newest": [LETTER | {"message": EVIL, "key": EVIL}]}]},
        ),
        (
            ("dlq", "show", "x"),
            "GET /dlq/x",
            LETTER | {"reason": {EVIL: EVIL}, "headers": {EVIL: EVIL}, "malformed": EVIL, "bytes": 1,
                      "hex": "00", "is_cut": False, "retried_at_ms": None, "key": EVIL},
        ),
        (
            ("audit", "list"),
            "GET /audit",
            {"items": [{"at_ms": 1, "org": EVIL, "action": EVIL, "actor": EVIL, "request_id": EVIL,
                        "detail": {"model": EVIL}}], "search": {"gave_up": None}},
        ),
        (
            ("config", "status"),
            "GET /status",
            {"instances": [{"name": EVIL, "role": EVIL, "offset": 1, "age_ms": 1, "live": True}],
             "config": {"offset": 1, "alarm": EVIL, "problems": [{"where": EVIL, "what": EVIL}]}},
        ),
        (
            ("usage", "report", "--format", "csv"),
            "GET /usage",
            {"by": ["org"], "rows": [{"org": "a\x1b[2J"}], "total": None},
        ),
    ],
)  # fmt: skip
def test_no_answer_of_the_gateway_reaches_the_terminal_as_it_is(
    command: tuple[str, ...], asked: str, answer: object, as_json: bool
) -> None:
    """Neither as text nor as JSON, whose escapes are ASCII."""
    options = [*command, "--json"] if as_json else list(command)
    _, data, story = run(Gateway({asked: answer}), *options)

    assert "x" in data or "a" in data
    assert _is_clean(data.replace("\r\n", "\n"))
    assert _is_clean(story)
    assert "\nx" not in data.replace("\nx\\x1b", "\n")
    if as_json:
        json.loads(data)


def test_a_timeline_forges_no_step() -> None:
    """A backend's message is part of a line; texts that were asked for keep their lines."""
    facts = {
        "status": "failed", "http_status": 502, "error_code": "upstream_error",
        "error_message": f"{EVIL}\n12:00:00 finished  200", "result_bytes": 0, "denial": None, "said": None,
        "bookings": [], "result": "one\ntwo",
    }  # fmt: skip
    step = {"at_ms": 1, "what": "finished", "place": "p", "note": None, "facts": facts}
    told = {
        "request_id": "r", "org": "acme", "status": "failed", "http_status": 502,
        "error_code": None, "steps": [step], "search": {"records": 1},
    }  # fmt: skip
    lines = timeline_text(told).splitlines()

    assert not any(line.startswith("12:00:00") for line in lines)
    assert [line.strip() for line in lines[-3:-1]] == ["one", "two"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create", "--org", "a", "--rps", "nan"),
        ("keys", "create", "--org", "a", "--rps", "inf"),
        ("keys", "create", "--org", "a", "--rps", "-inf"),
        ("keys", "create", "--org", "a", "--rps", "1e999"),
        ("keys", "create", "--org", "a", "--rps", "x"),
        ("keys", "create", "--org", "a", "--burst", "9" * 5_000),
        ("keys", "rotate", "k", "--grace", "nan"),
        ("keys", "rotate", "k", "--grace", "24"),
        ("keys", "create", "--org", "a", "--expires", "tomorrow"),
        ("ledger", "verify", "--deadline-s", "nan"),
        ("keys", "revoke", "\udcff"),
        ("keys", "create", "--org", "\x1b[2J", "--rps", "\x1b[2J"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_said_in_three_lines(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Never a traceback, and nothing is sent."""
    data, story = io.StringIO(), io.StringIO()
    try:
        code = run_command(arguments, Output(data, story, as_json=False))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else -1
    text = story.getvalue() + capsys.readouterr().err

    assert code == Exit.USAGE
    assert [line.split(":")[0].strip() for line in text.strip().splitlines()] == [
        "error",
        "why",
        "fix",
    ]
    assert _is_clean(text)


def test_progress_of_a_child_moves_no_cursor() -> None:
    """Its last words are foreign text."""
    out = io.StringIO()
    say(render_progress(Progress("kafka", False, EVIL)), out)

    assert _is_clean(out.getvalue())

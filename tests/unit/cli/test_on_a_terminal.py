"""What only a person at a terminal sees: width, colour, bars; and how a command ends under their hands."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import time

import pytest
from rich.console import Console

from deploy.cli.output import Exit, Output
from deploy.cli.progress import bar, measured_bar
from deploy.cli.table import table
from deploy.terminal import console_of
from tests.unit.cli.commands_with_answers import CASES
from tests.unit.cli.fixed_world import fixed_world
from tests.unit.cli.scripted_admin import Gateway, run, run_to
from tests.unit.cli.test_hostile_output import OUR_STYLES, Terminal

ROWS = [{"name": "n" * 60, "message": "two words " * 9}]


@pytest.fixture(autouse=True)
def terminal_of_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def on_terminal(*arguments: str, answers: dict[str, object]) -> tuple[str, str]:
    """What a terminal shows of stdout and of stderr."""
    data, story = Terminal(), Terminal()
    run_to(Gateway(answers), Output(data, story, as_json=False), *arguments)
    return data.getvalue(), story.getvalue()


def test_a_table_is_folded_at_the_width_of_the_terminal() -> None:
    """Nothing is cut: all that was there can be read."""
    out = Terminal()
    Output(out, out, as_json=False).result({}, table(("name", "message"), ROWS))
    lines = [OUR_STYLES.sub("", line) for line in out.getvalue().splitlines()]

    assert max(map(len, lines)) == 80
    assert "".join(lines).count("n") >= 60
    assert out.getvalue().count("words") == 9


def test_a_table_in_a_pipe_is_as_wide_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """``awk`` counts on one line per row, whatever the terminal's width."""
    out = io.StringIO()
    Output(out, out, as_json=False).result({}, table(("name", "message"), ROWS))

    assert [len(line) for line in out.getvalue().splitlines()] == [69, 151]


def test_a_terminal_that_cannot_place_text_gets_what_a_pipe_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``TERM=dumb``, as in an editor."""
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    shown = table(("name", "message"), ROWS)
    Output(out, out, as_json=False).result({}, shown)

    assert out.getvalue() == shown.plain() + "\n"


def test_wide_characters_take_two_columns() -> None:
    """The next column stands where its name stands."""
    text = table(("name", "x"), [{"name": "日本", "x": "a"}, {"name": "abcd", "x": "b"}]).plain()

    assert text.splitlines() == ["name  x", "日本  a", "abcd  b"]


def test_what_fails_is_red_and_what_is_well_is_green() -> None:
    """By what the line begins with."""
    with fixed_world():
        data, _ = on_terminal("doctor", "--brokers", "h:1", answers=dict(CASES[-2].answers))
    _, story = on_terminal("lag", answers={})

    assert "\x1b[32mok " in data
    assert "\x1b[31mproblem" in data
    assert story.startswith("\x1b[1;31merror: ")


@pytest.mark.parametrize(
    ("variable", "value", "is_colored"),
    [("NO_COLOR", "1", False), ("NO_COLOR", "", True), ("FORCE_COLOR", "1", True)],
)
def test_colour_is_taken_away_by_a_variable(
    variable: str, value: str, is_colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """https://no-color.org: present and not empty."""
    monkeypatch.setenv(variable, value)
    _, story = on_terminal("lag", answers={})

    assert ("\x1b" in story) is is_colored


def test_no_variable_puts_colour_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is piped is read by programs."""
    for variable in ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "GITHUB_ACTIONS"):
        monkeypatch.setenv(variable, "1")

    assert "\x1b" not in "".join(run(Gateway({}), "lag")[1:])
    help_text = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "keys", "create", "--help"],
        check=True, capture_output=True, timeout=60,
    ).stdout  # fmt: skip
    assert b"\x1b" not in help_text


def test_json_is_the_same_on_a_terminal() -> None:
    """Neither coloured nor folded."""
    answers: dict[str, object] = {"GET /lag": {"items": [], "long": "x" * 500}}
    data, _ = on_terminal("lag", "--json", answers=answers)

    assert data == run(Gateway(answers), "lag", "--json")[1]


def console() -> tuple[Console, Terminal]:
    out = Terminal()
    found = console_of(out)
    assert found is not None
    return found, out


def test_a_bar_comes_when_it_takes_long_and_goes_without_a_trace() -> None:
    """And says what is being done."""
    found, out = console()
    with bar("searching the log", 3, found, delay_s=0.0) as advance:
        advance()
        deadline_s = time.monotonic() + 10
        while "1/3" not in out.getvalue() and time.monotonic() < deadline_s:
            time.sleep(0.01)

    assert "searching the log" in out.getvalue()
    assert "1/3" in out.getvalue()
    assert out.getvalue().endswith("\x1b[1A\x1b[2K")


def test_a_bar_is_as_far_as_what_it_waits_for_says() -> None:
    """Before it is known, it only shows that something goes on."""
    found, out = console()
    measures = iter([None, (3, 8)])
    with measured_bar("comparing", lambda: next(measures, (7, 8)), found, delay_s=0.0):
        deadline_s = time.monotonic() + 10
        while "7/8" not in out.getvalue() and time.monotonic() < deadline_s:
            time.sleep(0.01)

    assert "3/8" in out.getvalue()
    assert "7/8" in out.getvalue()
    assert out.getvalue().endswith("\x1b[1A\x1b[2K")


def test_what_is_quick_shows_no_bar() -> None:
    """It would only flicker."""
    found, out = console()
    with bar("searching the log", None, found):
        pass

    assert out.getvalue() == ""


def test_an_interrupted_command_ends_with_130_and_says_nothing() -> None:
    """Whoever pressed Ctrl-C knows why."""
    # Whoever runs the tests in the background may have it ignored.
    heeding = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from deploy.cli.main import main; main()"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [sys.executable, "-c", heeding, "lag", "--url", url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as asking:  # fmt: skip
            connection, _ = silent.accept()
            with connection:
                asking.send_signal(signal.SIGINT)
                said = asking.communicate(timeout=30)

    assert (asking.returncode, *said) == (Exit.INTERRUPTED, b"", b"")

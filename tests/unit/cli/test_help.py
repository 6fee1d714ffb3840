"""Help, examples, completion and suggestions: what a person learns from the command itself."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.main import run
from deploy.cli.output import Exit, Output
from deploy.cli.reference import CommandDoc, command_tree
from tests.support.command_line import parsed

COMMANDS = tuple(command_tree())
_HEAVY = (
    "aiokafka",
    "pydantic",
    "aiohttp",
    "faust",
    "starlette",
    "httpx",
    "pydantic_settings",
    "asyncio",
)


def said(*arguments: str) -> str:
    """What a command line that is wrong is answered on stderr."""
    story = io.StringIO()
    assert run(arguments, Output(io.StringIO(), story, as_json=False)) == Exit.USAGE
    return story.getvalue()


def words(example: str) -> list[str]:
    """The arguments of an example, which may stand in a shell's ``$( )``."""
    inner = example.partition("$(")[2].rstrip(")") or example
    program, *arguments = shlex.split(inner)
    assert program == "tallygate"
    return arguments


@pytest.mark.parametrize("found", COMMANDS, ids=lambda found: found.words)
def test_every_command_shows_examples_that_are_understood(found: CommandDoc) -> None:
    """What can be pasted is parsed by the real command line."""
    assert found.examples
    for example in found.examples:
        assert parsed(words(example))[0] == found.words


@pytest.mark.parametrize("found", COMMANDS, ids=lambda found: found.words)
def test_every_parameter_says_what_it_means(found: CommandDoc) -> None:
    """And no help is cut short in the list of commands."""
    assert [one.usage for one in found.parameters if not one.text] == []
    assert len(found.summary) < 62


def test_help_ends_with_the_examples_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """A line that is wrapped cannot be pasted."""
    assert (
        run(["keys", "create", "--help"], Output(io.StringIO(), io.StringIO(), as_json=False)) == 0
    )

    example = "tallygate keys create --org acme --model echo --rps 5 --budget-usd 10 --period month"
    assert f"    {example}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["kyes", "list"], "Did you mean 'keys'?"),
        (["dlq", "shwo"], "Did you mean 'show'?"),
        (["keys", "create", "--ogr", "a"], "--org"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_one_that_was_meant(
    arguments: list[str], meant: str
) -> None:
    """Nobody has to read the help for a slip of a finger."""
    assert meant in said(*arguments)


@pytest.mark.parametrize(
    ("shell", "variables", "offered"),
    [
        ("bash", {"COMP_WORDS": "tallygate ke", "COMP_CWORD": "1"}, "keys"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "tallygate keys cr"}, "create"),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "tallygate keys create --on", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
            "--on-limit",
        ),
    ],
)  # fmt: skip
def test_a_shell_completes_commands_and_options(
    shell: str, variables: dict[str, str], offered: str
) -> None:
    """By asking the command itself."""
    environment = os.environ | variables | {"_TALLYGATE_COMPLETE": f"complete_{shell}"}

    assert offered in tallygate(environment=environment)


def test_help_waits_for_no_library_that_a_command_may_need() -> None:
    """Half a second of imports would be felt with every typing mistake."""
    code = (
        "import sys; from deploy.cli.main import run, Output\n"
        "run(['--help'], Output(sys.stdout, sys.stderr, as_json=False))\n"
        "run(['keys', 'create', '--help'], Output(sys.stdout, sys.stderr, as_json=False))\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = ended([sys.executable, "-c", code])

    assert set(done.stderr.split()) & {*_HEAVY, "rich"} == set()


@pytest.mark.parametrize(
    "arguments", [("--version",), ("topics", "tail", "t", "--brokers", "h:1")], ids=" ".join
)
def test_a_reader_that_leaves_ends_the_command_in_silence(arguments: tuple[str, ...]) -> None:
    """As ``| head -1`` does. Kafka is not blamed for it."""
    code = (
        "from deploy.cli.main import main; from tests.unit.cli.fixed_world import fixed_world\n"
        "with fixed_world(): main()"
    )
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as broken:
        done = ended([sys.executable, "-c", code, *arguments], stdout=broken)

    assert (done.returncode, done.stderr) == (Exit.FAILURE, "")


def tallygate(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """What the installed command prints."""
    program = Path(sys.executable).with_name("tallygate")
    done = ended([program, *arguments], env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ended(arguments: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """A program after its end, with what it printed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(arguments, check=False, text=True, timeout=60, **pipes)

"""`deploy/loadtest.sh`: what it asks of the command line, and that the verdict is its exit code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploy.bench.figures import Figure, Result, summed_up
from deploy.bench.names import SCENARIOS
from deploy.cli.commands.bench import exit_of
from deploy.cli.output import Exit
from tests.support.command_line import parsed

SCRIPT = Path(__file__).parents[3] / "deploy" / "loadtest.sh"


def run(folder: Path, *words: str, says: int = 0) -> tuple[subprocess.CompletedProcess[str], str]:
    """The script's end, and the command that it ran; `says` is the exit code of that one."""
    program, told = folder / "program", folder / "told"
    program.write_text(f'#!/bin/sh\necho "$@" > {told}\nexit {says}\n', encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        [str(SCRIPT), *words],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "TALLYGATE": str(program)},
    )
    return done, told.read_text().strip() if told.exists() else ""


@pytest.mark.parametrize(
    ("name", "scenario"),
    [("baseline", "baseline"), ("limits", "limits"), ("burst", "overload"), ("soak", "soak")],
)
def test_each_name_is_a_scenario_whose_goals_must_be_met(
    tmp_path: Path, name: str, scenario: str
) -> None:
    """With what else was said; and the command line understands it."""
    done, told = run(tmp_path, name, "--rate", "20")

    assert told == f"bench {scenario} --must-meet --rate 20"
    assert scenario in SCENARIOS
    assert parsed(told.split())[0] == "tallygate bench"
    assert (done.returncode, done.stderr) == (0, f"{name}: PASSED\n")


@pytest.mark.parametrize("code", [1, 2])
def test_a_missed_goal_is_its_exit_code(tmp_path: Path, code: int) -> None:
    """Which a pipeline goes by."""
    done, _ = run(tmp_path, "limits", says=code)

    assert done.returncode == code
    assert "limits: FAILED" in done.stderr


@pytest.mark.parametrize("words", [(), ("burts",)])
def test_an_unknown_name_measures_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    """It says which there are."""
    done, told = run(tmp_path, *words)

    assert (done.returncode, told) == (2, "")
    assert "deploy/loadtest.sh soak" in done.stderr


@pytest.mark.parametrize(
    ("beside", "has_failed", "must_meet", "code"),
    [
        (0, False, True, Exit.OK),
        (1, False, True, Exit.FAILURE),
        (1, False, False, Exit.OK),
        (0, True, False, Exit.FAILURE),
    ],
)
def test_a_missed_goal_fails_where_it_must_be_met(
    beside: int, has_failed: bool, must_meet: bool, code: Exit
) -> None:
    """Elsewhere it is told, because machines differ; a request that failed is a failure anyway."""
    result = Result("limits", [Figure("limits.quota", beside)], has_failed=has_failed)

    assert exit_of([result], summed_up([result]), must_meet=must_meet) == code

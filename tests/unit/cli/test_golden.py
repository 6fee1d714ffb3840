"""What every command asks, prints and ends with, against files that were written before its port.

After a wanted change: ``python -m tests.unit.cli.test_golden`` writes them anew; review the difference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.commands_with_answers import CASES, Case
from tests.unit.cli.fixed_world import fixed_world
from tests.unit.cli.scripted_admin import Gateway, run

GOLDEN = Path(__file__).with_name("golden.json")
ALL = [case for one in CASES for case in (one, one.with_json)]


def outcome(case: Case) -> dict[str, Any]:
    """What the command asked for, printed and ended with."""
    gateway = Gateway(case.answers, case.status)
    with fixed_world():
        code, data, story = run(gateway, *case.arguments)
    found = {"code": code, "stdout": data, "stderr": story, "asked": gateway.asked}
    return dict(json.loads(json.dumps(found)))


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return dict(json.loads(GOLDEN.read_text(encoding="utf-8")))


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_a_command_asks_prints_and_ends_as_it_always_did(
    case: Case, golden: dict[str, Any]
) -> None:
    """Byte for byte: programs read stdout, people have learnt the rest."""
    assert outcome(case) == golden[case.id]


def test_every_golden_output_has_its_case(golden: dict[str, Any]) -> None:
    """None is left over from a command that is gone."""
    assert list(golden) == sorted(case.id for case in ALL)


if __name__ == "__main__":
    written = {case.id: outcome(case) for case in ALL}
    GOLDEN.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n", encoding="utf-8")

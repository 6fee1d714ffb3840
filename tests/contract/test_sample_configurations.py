"""The sample configurations are read by the very code that will read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.desired_state.document import parse_desired_state, reference_problems
from deploy.embedded.environment import SETTINGS, variables_of
from tests.support.calls_in_code import ROOT

FOLDER = ROOT / "examples" / "config"
STATES = sorted(FOLDER.glob("*.yaml"))


def _variables(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.name)
def test_a_sample_state_can_be_applied(path: Path) -> None:
    """Neither a field nor a reference is wrong."""
    state = parse_desired_state(path.read_text(encoding="utf-8"))

    assert state.entities
    assert state.problems == ()
    assert reference_problems(state.entities) == []


@pytest.mark.parametrize("role", SETTINGS)
def test_a_role_starts_with_its_sample_environment(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The common file and its own say all that it needs, and nothing that it does not know."""
    given = _variables(FOLDER / "common.env") | _variables(FOLDER / f"{role}.env")
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    SETTINGS[role]()

    assert set(given) <= variables_of(SETTINGS[role])

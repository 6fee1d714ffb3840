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
    """The common file and its own say all that it needs; a name in its own that it does not read is a typo."""
    own = _variables(FOLDER / f"{role}.env")
    for name, value in (_variables(FOLDER / "common.env") | own).items():
        monkeypatch.setenv(name, value)

    SETTINGS[role]()

    assert set(own) <= variables_of(SETTINGS[role])


def test_what_the_samples_have_in_common_is_read_by_somebody() -> None:
    """The control plane needs less than the others."""
    known = set().union(*map(variables_of, SETTINGS.values()))

    assert set(_variables(FOLDER / "common.env")) <= known

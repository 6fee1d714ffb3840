"""Where the commands find the gateway."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx
import pytest

from deploy.cli.address import admin_url, completed, current_stack
from deploy.cli.main import run
from deploy.cli.output import CommandFailed, Exit, Output
from tests.unit.cli.scripted_admin import Gateway


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's state folder without any gateway."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("TALLYGATE_ADMIN_URL", raising=False)
    return tmp_path / "tallygate" / "current.json"


def leave_address(file: Path, url: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"admin_url": url, "pid": 1}))


def asked(*options: str) -> str:
    """The host that a command asks."""
    gateway, output = (
        Gateway({"GET /lag": {"items": []}}),
        Output(io.StringIO(), io.StringIO(), False),
    )
    assert run(["lag", *options], output, httpx.MockTransport(gateway.respond)) == Exit.OK
    return gateway.requests[0].url.host


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/admin/v1/"])
def test_the_path_of_the_api_need_not_be_typed(url: str) -> None:
    """Host and port are enough."""
    assert completed(url) == "http://h:1/admin/v1"


def test_what_is_said_comes_before_the_environment_and_what_was_left(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest wish holds."""
    leave_address(home, "http://left:1")
    assert asked() == "left"

    monkeypatch.setenv("TALLYGATE_ADMIN_URL", "http://environment:1")
    assert asked() == "environment"

    assert asked("--url", "http://said:1") == "said"


def test_no_gateway_at_all_is_said_with_a_fix(home: Path) -> None:
    """A first-time user learns which command to run."""
    assert not home.exists()

    with pytest.raises(CommandFailed, match="no gateway") as failed:
        admin_url(None)

    assert "tallygate up" in failed.value.text


def test_half_an_address_file_counts_as_none(tmp_path: Path) -> None:
    """A file that cannot be read is not a crash."""
    file = tmp_path / "current.json"
    file.write_text("{")

    assert current_stack(file) == {}

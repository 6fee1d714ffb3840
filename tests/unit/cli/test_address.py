"""Where the commands find the gateway."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx
import pytest

from deploy.cli.address import Address, complete, completed, current_stack
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
        complete(Address())

    assert "tallygate up" in failed.value.text


def test_half_an_address_file_counts_as_none(tmp_path: Path) -> None:
    """A file that cannot be read is not a crash."""
    file = tmp_path / "current.json"
    file.write_text("{")

    assert current_stack(file) == {}


def test_the_files_of_a_running_stack_are_used_for_its_own_address_alone(home: Path) -> None:
    """A certificate that was made here is shown to nobody else, and what is named comes first."""
    names = ("TALLYGATE_ADMIN_CA", "TALLYGATE_ADMIN_CERT", "TALLYGATE_ADMIN_CERT_KEY")
    home.parent.mkdir(parents=True)
    home.write_text(json.dumps({"admin_url": "https://h:1/admin/v1"} | {n: f"/{n}" for n in names}))
    left = tuple(Path(f"/{name}") for name in names)

    def files(said: Address) -> tuple[Path | None, ...]:
        found = complete(said)
        return found.ca, found.cert, found.cert_key

    assert files(Address()) == files(Address("https://h:1")) == left
    assert files(Address("https://other:1")) == (None, None, None)
    assert files(Address("https://h:1", ca=Path("/mine"))) == (Path("/mine"), None, None)


@pytest.mark.parametrize("name", ["--cert", "--ca"])
def test_a_file_that_is_no_certificate_is_told_with_its_fix(tmp_path: Path, name: str) -> None:
    """Before anybody is asked."""
    file = tmp_path / "file"
    file.write_text("nonsense")
    story = io.StringIO()
    gateway = Gateway({})

    code = run(
        ["lag", "--url", "https://h:1", name, str(file)],
        Output(io.StringIO(), story, False),
        httpx.MockTransport(gateway.respond),
    )

    assert code == Exit.USAGE
    assert "a certificate cannot be used" in story.getvalue()
    assert str(file) in story.getvalue()
    assert gateway.requests == []

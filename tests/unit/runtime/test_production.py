"""S20: with TALLYGATE_ENV=production no process starts with what is not fit for it, and each line says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.embedded.environment import SETTINGS
from deploy.embedded.problem import StackError
from deploy.embedded.state import UserFolders
from deploy.embedded.up import UpOptions, make_plan
from schemas.runtime.process.settings import read_settings
from tests.support.harness.certificates import Authority

_MODULES = {"admin": "ingress.admin", "batches": "ingress.batches"}


class Place:
    """An installation that is fit for production, in files and variables."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "ours")
        self.server, self.client = self.authority.vouch("server"), self.authority.vouch("client")
        self.roles = folder / "roles"
        self.roles.write_text("owner cn:alice\n")
        ca = self.authority.pair.certificate
        self.tls = (
            f"ssl_ca_certs={ca}&ssl_certfile={self.client.certificate}"
            f"&ssl_keyfile={self.client.key}"
        )
        drawn = "9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0"
        self.variables = {
            "TALLYGATE_ENV": "production",
            "TALLYGATE_KAFKA_BROKERS": f"kafkas://ingress:{drawn}@k:1?{self.tls}",
            "TALLYGATE_LEDGER_URL": f"rediss://ingress:{drawn}@h:1/0?{self.tls}",
            "TALLYGATE_BUS_URL": f"rediss://ingress:{drawn}@h:2/0?ssl_ca_certs={ca}",
            "TALLYGATE_DATA_DIR": str(folder / "data"),
            "TALLYGATE_INSTANCE_ID": "one-0",
            "TALLYGATE_HTTP_PORT": "1",
            "TALLYGATE_FILES_URL": f"file://{folder}/files",
            "TALLYGATE_KEY_PEPPER": drawn,
            "TALLYGATE_ADMIN_TLS_CERT": str(self.server.certificate),
            "TALLYGATE_ADMIN_TLS_KEY": str(self.server.key),
            "TALLYGATE_ADMIN_TLS_CLIENT_CA": str(ca),
            "TALLYGATE_ADMIN_ROLES": str(self.roles),
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    role: str,
    variables: Mapping[str, str],
) -> list[str]:
    """What a process says that does not start; nothing when it does."""
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        read_settings(SETTINGS[role])
    except SystemExit as end:
        lines = capsys.readouterr().err.splitlines()
        return [f"exit {end.code}", *lines[:-1]]
    return []


CASES: Mapping[str, tuple[Mapping[str, str], str]] = {
    "a broker in the clear": (
        {"TALLYGATE_KAFKA_BROKERS": "k:1"},
        "TALLYGATE_KAFKA_BROKERS: what is said to it can be read on the way; begin it with kafkas:// for TLS",
    ),
    "a login in the clear": (
        {"TALLYGATE_KAFKA_BROKERS": "kafka://u:0123456789abcdef@k:1"},
        "TALLYGATE_KAFKA_BROKERS: what is said to it can be read on the way; begin it with kafkas:// for TLS",
    ),
    "a broker's usual password": (
        {"TALLYGATE_KAFKA_BROKERS": "kafkas://u:changeme@k:1"},
        "TALLYGATE_KAFKA_BROKERS: its password is one that everybody tries; draw one at random",
    ),
    "a store in the clear": (
        {"TALLYGATE_LEDGER_URL": "redis+cluster://h:1,h:2"},
        "TALLYGATE_LEDGER_URL: what is said to it can be read on the way; begin it with rediss for TLS",
    ),
    "a store's usual password": (
        {"TALLYGATE_LEDGER_URL": "rediss://ingress:INGRESS@h:1"},
        "TALLYGATE_LEDGER_URL: its password is one that everybody tries; draw one at random",
    ),
    "a test stack": (
        {"TALLYGATE_TEST": "1"},
        "TALLYGATE_TEST: a test stack is no production; unset it",
    ),
}
"""For every process: what is set otherwise, and the one line about it."""
SECRETS = ("pepper", "0" * 64, "change-me" * 8, "0123456789abcdef0123456789abcde")


@pytest.mark.parametrize("role", SETTINGS)
def test_what_is_fit_for_production_starts(
    role: str, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that each refusal below is of what it names."""
    assert told(monkeypatch, capsys, role, place.variables) == []


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("role", SETTINGS)
def test_no_process_starts_with_what_others_can_read_or_guess(
    role: str,
    case: str,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """S20: one line, exit code 2, and no secret in it. In development it starts."""
    changed, line = CASES[case]
    variables = {**place.variables, **changed}

    assert told(monkeypatch, capsys, role, variables) == ["exit 2", line]
    assert told(monkeypatch, capsys, role, variables | {"TALLYGATE_ENV": "development"}) == []


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("role", ["admin", "ingress"])
def test_a_secret_that_can_be_guessed_is_refused(
    role: str,
    secret: str,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Short, or of the same few characters."""
    lines = told(monkeypatch, capsys, role, place.variables | {"TALLYGATE_KEY_PEPPER": secret})

    assert lines[0] == "exit 2"
    assert lines[-1].startswith("TALLYGATE_KEY_PEPPER: ")
    assert secret not in "".join(lines)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o606])
def test_a_key_file_that_everybody_may_use_is_refused(
    mode: int, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the admin port, of a broker and of a store; to be read by a group is fine."""
    place.server.key.chmod(mode)
    of_port = told(monkeypatch, capsys, "admin", place.variables)
    place.server.key.chmod(0o640)
    place.client.key.chmod(mode)
    of_others = told(monkeypatch, capsys, "admin", place.variables)
    place.client.key.chmod(0o640)

    said = "everybody on this machine may use {0}; chmod o-rwx {0}"
    assert of_port == ["exit 2", f"TALLYGATE_ADMIN_TLS_KEY: {said.format(place.server.key)}"]
    assert of_others[1:] == [
        f"{name}: {said.format(place.client.key)}"
        for name in ("TALLYGATE_KAFKA_BROKERS", "TALLYGATE_LEDGER_URL")
    ]
    assert told(monkeypatch, capsys, "admin", place.variables) == []


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("ingress", "TALLYGATE_KEY_PEPPER"),
        ("limiter_worker", "TALLYGATE_LEDGER_URL"),
        ("accounting", "TALLYGATE_KAFKA_BROKERS"),
        ("dispatcher", "BACKEND_GPU_1_API_KEY"),
    ],
)
def test_a_file_with_a_secret_that_everybody_may_read_is_refused(
    role: str,
    name: str,
    tmp_path: Path,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Those that NAME_FILE names."""
    file = tmp_path / "secret"
    file.write_text(place.variables.get(name, "sk-1"))
    variables = {n: v for n, v in place.variables.items() if n != name}
    variables |= {f"{name}_FILE": str(file)}
    file.chmod(0o644)
    lines = told(monkeypatch, capsys, role, variables)
    file.chmod(0o600)

    assert lines == [
        "exit 2",
        f"{name}_FILE: everybody on this machine may use {file}; chmod o-rwx {file}",
    ]
    assert told(monkeypatch, capsys, role, variables) == []


def test_an_admin_port_without_client_certificates_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever address it is bound to."""
    variables = {n: v for n, v in place.variables.items() if not n.startswith("TALLYGATE_ADMIN_")}

    lines = told(monkeypatch, capsys, "admin", variables)

    assert lines[0] == "exit 2"
    assert lines[1].startswith("TALLYGATE_ADMIN_TLS_CERT: the admin port asks for no certificate; ")
    assert len(lines) == 2


def test_an_environment_that_is_none_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip of the pen is no development."""
    lines = told(monkeypatch, capsys, "ingress", place.variables | {"TALLYGATE_ENV": "prod"})

    assert lines[0] == "exit 2"
    assert lines[1].startswith("TALLYGATE_ENV: ")


def test_every_problem_is_told_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody starts five times to learn five things."""
    changed = {
        "TALLYGATE_KAFKA_BROKERS": "k:1",
        "TALLYGATE_LEDGER_URL": "redis://h:1",
        "TALLYGATE_KEY_PEPPER": "0123456789abcdef" * 2 + "",
        "TALLYGATE_TEST": "1",
    }
    variables = {n: v for n, v in place.variables.items() if not n.startswith("TALLYGATE_ADMIN_")}

    lines = told(monkeypatch, capsys, "admin", variables | changed)

    assert {line.partition(":")[0] for line in lines[1:]} == {
        "TALLYGATE_KAFKA_BROKERS",
        "TALLYGATE_LEDGER_URL",
        "TALLYGATE_TEST",
        "TALLYGATE_ADMIN_TLS_CERT",
    }


@pytest.mark.parametrize("role", SETTINGS)
def test_the_process_itself_ends_at_once(role: str, place: Place) -> None:
    """S20: as it is started, before it connects to anybody or opens a port."""
    variables = place.variables | {"TALLYGATE_KAFKA_BROKERS": "127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-m", _MODULES.get(role, role)],
        env=variables | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("TALLYGATE_KAFKA_BROKERS: what is said to it can be read")
    assert done.stdout == ""


def test_tallygate_up_is_no_production(tmp_path: Path) -> None:
    """It would speak without TLS on one machine; it says so before it makes a folder."""
    folders = UserFolders(xdg_state_home=tmp_path / "state", xdg_cache_home=tmp_path / "cache")
    with pytest.raises(StackError, match="TALLYGATE_ENV is production") as refused:
        make_plan(UpOptions(), folders, {"TALLYGATE_ENV": "production"})

    assert "start the processes one by one" in refused.value.fix
    assert list(tmp_path.iterdir()) == []

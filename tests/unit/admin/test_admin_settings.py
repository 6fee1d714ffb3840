"""What the admin process is told of TLS: all of it or nothing, and files that can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingress.admin.settings import AdminSettings
from schemas.runtime.process.settings import read_settings
from tests.unit.admin.tls_admin import World, make_world

_LEAST = {
    "TALLYGATE_KAFKA_BROKERS": "h:1",
    "TALLYGATE_LEDGER_URL": "redis://h:1/0",
    "TALLYGATE_DATA_DIR": "/nonexistent",
    "TALLYGATE_INSTANCE_ID": "admin-0",
    "TALLYGATE_KEY_PEPPER": "a pepper of thirty-two characters",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def variables(world: World) -> dict[str, str]:
    return {
        "TALLYGATE_ADMIN_TLS_CERT": str(world.server.certificate),
        "TALLYGATE_ADMIN_TLS_KEY": str(world.server.key),
        "TALLYGATE_ADMIN_TLS_CLIENT_CA": str(world.authority.pair.certificate),
        "TALLYGATE_ADMIN_ROLES": str(world.roles),
    }


def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: dict[str, str]
) -> Any:
    """The settings, or what is said of them."""
    for name, value in (_LEAST | more).items():
        monkeypatch.setenv(name, value)
    try:
        return read_settings(AdminSettings)
    except SystemExit as end:
        return f"exit {end.code}\n{capsys.readouterr().err}"


def test_with_nothing_the_port_is_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(monkeypatch, capsys, {}).admin_tls is None


def test_with_all_of_it_the_port_has_tls(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(monkeypatch, capsys, variables(world)).admin_tls == world.files


@pytest.mark.parametrize("name", ["TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "ROLES"])
def test_what_is_left_out_is_named(
    name: str, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of it would be a port without certificates, or one that nobody may use."""
    more = variables(world)
    del more[f"TALLYGATE_ADMIN_{name}"]

    said = told(monkeypatch, capsys, more)

    assert said.startswith("exit 2\n")
    assert f"TLS of the admin port also needs TALLYGATE_ADMIN_{name}\n" in said


@pytest.mark.parametrize("name", ["TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "ROLES"])
@pytest.mark.parametrize("text", [None, "nonsense"])
def test_a_file_that_cannot_be_used_is_told_before_the_start(
    name: str,
    text: str | None,
    tmp_path: Path,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not there, or not what it should be."""
    file = tmp_path / "file"
    if text is not None:
        file.write_text(text)

    said = told(monkeypatch, capsys, variables(world) | {f"TALLYGATE_ADMIN_{name}": str(file)})

    assert "cannot be used: " in said
    assert ("TALLYGATE_ADMIN_ROLES" in said) is (name == "ROLES")


def test_a_key_of_another_certificate_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = world.authority.vouch("other")

    said = told(monkeypatch, capsys, variables(world) | {"TALLYGATE_ADMIN_TLS_KEY": str(other.key)})

    assert "cannot be used" in said

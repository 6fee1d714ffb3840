"""Certificates of the admin port of this machine: what is made, who may read it, and what it opens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.embedded.admin_tls import admin_certificates, ensure_admin_certificates, identity
from ingress.admin.settings import AdminSettings
from schemas.admin_roles import Role, read_roles
from tests.unit.cli.scripted_admin import local


def test_what_is_made_is_what_the_control_plane_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings read them: the files fit each other, and each role has its identity."""
    assert ensure_admin_certificates(tmp_path, ["admin.internal", "10.0.0.7"])
    made = admin_certificates(tmp_path)
    for name, value in made.settings().items():
        monkeypatch.setenv(name, value)

    settings = AdminSettings(
        kafka_brokers="h:1",
        ledger_url="redis://h:1/0",
        data_dir=tmp_path,
        instance_id="admin-0",
        key_pepper="a pepper of thirty-two characters",
    )

    assert settings.admin_tls is not None
    assert read_roles(made.roles.read_text()) == {identity(role): role for role in Role}
    made.client_context()


def test_keys_are_private_and_the_authority_signs_nothing_more(tmp_path: Path) -> None:
    """Nobody else of this machine reads them."""
    ensure_admin_certificates(tmp_path)
    folder = admin_certificates(tmp_path).files.folder

    keys = {key.stem: key.stat().st_mode & 0o777 for key in folder.glob("*.key")}
    assert keys == dict.fromkeys(["server", *Role], 0o600)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_they_are_made_once_and_anew_when_asked(tmp_path: Path) -> None:
    """The command says which; half a folder counts as none."""
    option = ("--state-dir", str(tmp_path))
    first = local("certs", "dev", *option, "--json")
    again = local("certs", "dev", *option, "--json")
    before = admin_certificates(tmp_path).files.authority.read_bytes()
    renewed = local("certs", "dev", *option, "--renew", "--host", "admin.internal")

    assert [json.loads(out)["made"] for code, out, _ in (first, again)] == [True, False]
    assert renewed[0] == 0
    assert "uri:spiffe://tallygate.dev/owner" in renewed[1]
    assert admin_certificates(tmp_path).files.authority.read_bytes() != before

    admin_certificates(tmp_path).roles.unlink()
    assert ensure_admin_certificates(tmp_path) is True


@pytest.mark.parametrize("host", ["a b", "ä.example", "", "a/b"])
def test_a_name_that_no_certificate_can_have_is_refused(tmp_path: Path, host: str) -> None:
    """Before anything is made."""
    code, _, story = local("certs", "dev", "--state-dir", str(tmp_path), "--host", host)

    assert (code, "is no name of a host" in story) == (2, True)
    assert list(tmp_path.iterdir()) == []

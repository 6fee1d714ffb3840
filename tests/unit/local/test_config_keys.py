"""The keys of a stack that sign its configuration: each process has its own, and all know whom to believe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import ValidationError

from accounting.settings import AccountingSettings
from deploy.embedded.config_keys import config_settings, signer_of_stack
from deploy.embedded.ledger_shape import LedgerShape
from deploy.embedded.roles import ROLES, role_spec
from deploy.embedded.state import Memory, StateFolder
from deploy.embedded.stores import Stores
from ingress.admin.settings import AdminSettings
from schemas.config_signing import read_verifier
from schemas.runtime.process.settings import read_settings

MEMORY = Memory("K", "p" * 32, config_secret="ab" * 32, is_config_signed=True)
ALL: dict[str, Any] = {
    "kafka_brokers": "h:1",
    "ledger_url": "redis://h:1/0",
    "data_dir": Path("/nowhere"),
    "instance_id": "one-0",
}


@pytest.mark.parametrize("role", ROLES)
def test_who_writes_has_its_own_key_and_all_know_whom_to_believe(role: str) -> None:
    """A reader has public keys only; accounting has not the key of the control plane."""
    told = config_settings(MEMORY, role)

    assert ("TALLYGATE_CONFIG_SIGNING_KEY" in told) is (role in ("admin", "accounting"))
    assert told["TALLYGATE_CONFIG_VERIFY_KEYS"].startswith("admin=")
    if role != "admin":
        admins = config_settings(MEMORY, "admin")["TALLYGATE_CONFIG_SIGNING_KEY"]
        assert admins not in told.values()


def test_a_log_from_before_is_believed_until_it_is_signed() -> None:
    """Then from the next start on nothing else is."""
    told = config_settings(replace(MEMORY, is_config_signed=False), "admin")

    assert "TALLYGATE_CONFIG_SIGNING_KEY" in told
    assert "TALLYGATE_CONFIG_VERIFY_KEYS" not in told


def test_a_writer_whom_nobody_would_believe_does_not_start() -> None:
    """Without a key where signatures are asked for, or with one that is not listed."""
    listed = config_settings(MEMORY, "admin")["TALLYGATE_CONFIG_VERIFY_KEYS"]
    more: dict[str, Any] = {**ALL, "config_verify_keys": listed}
    with pytest.raises(ValidationError, match="TALLYGATE_CONFIG_SIGNING_KEY"):
        AdminSettings(**more, key_pepper="p" * 32)
    with pytest.raises(ValidationError, match="none of accounting's"):
        AccountingSettings(
            **more, bus_url="redis://h:2", http_port=1, config_signing_key=f"{7:064x}"
        )
    with pytest.raises(ValidationError, match="32 bytes in hex"):
        AdminSettings(**ALL, key_pepper="p" * 32, config_signing_key="secret")


def test_settings_of_a_process_fit_each_other_whatever_files_the_shell_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the shell would be a second value of what the stack gives itself."""
    folder = StateFolder.claim(tmp_path)
    ports = MappingProxyType({"admin-0": 1, "kafka": 2, "ledger": 3, "bus": 4})
    shell = {
        "TALLYGATE_KEY_PEPPER_FILE": "/run/pepper",
        "TALLYGATE_CONFIG_SIGNING_KEY_FILE": "/run/key",
        "TALLYGATE_LOG_LEVEL": "DEBUG",
    }
    stores = Stores(LedgerShape(), ports, Path("/bin/true"))
    spec = role_spec("admin-0", folder, ports, "127.0.0.1:2", stores, MEMORY, shell)
    folder.release()
    for name, value in spec.environment.items():
        monkeypatch.setenv(name, value)

    settings = read_settings(AdminSettings)

    assert settings.config_signer is not None
    assert settings.config_signer.public == signer_of_stack(MEMORY, "admin").public
    assert settings.log_level == "DEBUG"
    assert read_verifier(settings.config_verify_keys) is not None

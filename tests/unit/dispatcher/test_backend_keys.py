"""A backend's key comes from its variable, or from the file that is named instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.embedded.seed import backend_entity
from deploy.embedded.upstreams import Unreachable, Upstream, discover_models
from dispatcher.settings import backend_api_keys


def test_a_key_comes_from_its_variable_or_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the end of its line."""
    (tmp_path / "key").write_text("of-b\n", encoding="utf-8")
    monkeypatch.setenv("BACKEND_A_API_KEY", "of-a")
    monkeypatch.setenv("BACKEND_B_API_KEY_FILE", str(tmp_path / "key"))

    assert backend_api_keys() == {"BACKEND_A_API_KEY": "of-a", "BACKEND_B_API_KEY": "of-b"}


def test_a_file_that_cannot_be_read_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As any setting that is wrong; calls without a key would be refused one by one."""
    monkeypatch.setenv("BACKEND_B_API_KEY_FILE", "/nowhere/key")

    with pytest.raises(SystemExit) as ended:
        backend_api_keys()

    assert ended.value.code == 2
    assert "BACKEND_B_API_KEY_FILE: /nowhere/key cannot be read" in capsys.readouterr().err


async def test_a_stack_finds_the_models_of_a_backend_with_the_key_of_a_file() -> None:
    """It names the variable in the configuration, and says which file it cannot read."""
    upstream = Upstream("gpu", "http://127.0.0.1:1/v1")
    environment = {"BACKEND_GPU_API_KEY_FILE": "/nowhere/key"}

    found = await discover_models(upstream, environment)

    assert backend_entity(upstream, environment).body["api_key_env"] == "BACKEND_GPU_API_KEY"
    assert isinstance(found, Unreachable)
    assert "/nowhere/key cannot be read" in found.why

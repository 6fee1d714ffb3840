"""What the parts of a running stack see of each other: no neighbour's secret, and the broker's disk."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.running_stack import lasting, running_stack

pytestmark = pytest.mark.timeout(240)

BACKEND_KEY = "s3cret-of-a-backend"
PROXY = "http://user:s3cret@127.0.0.1:9"


def _environment_of(pid: int) -> dict[str, str]:
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return dict(pair.split("=", 1) for pair in raw.split("\0") if "=" in pair)


def _command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def test_a_running_stack_keeps_its_secrets_apart_and_says_how_full_the_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backends' keys are the dispatcher's, the pepper is ingress's, the shell's proxy is nobody's."""
    monkeypatch.setenv("BACKEND_EXAMPLE_A_API_KEY", BACKEND_KEY)
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    with running_stack(tmp_path / "state") as stack:
        children = lasting(stack.process.pid)
        environments = {_command_of(pid): _environment_of(pid) for pid in children}
        with open_foreign(stack.ledger_url) as store:
            told = {k.decode(): v.decode() for k, v in store.hgetall("{cfg}|disk").items()}

    assert len(environments) >= 9
    for command, seen in environments.items():
        assert ("BACKEND_EXAMPLE_A_API_KEY" in seen) is ("-m dispatcher" in command), command
        knows_keys = "-m ingress" in command and "-m ingress.batches" not in command
        assert ("TALLYGATE_KEY_PEPPER" in seen) is knows_keys, command
        others = {k: v for k, v in seen.items() if k != "BACKEND_EXAMPLE_A_API_KEY"}
        assert not any("s3cret" in value for value in others.values()), command
    free, total, at_ms = map(int, told["127.0.0.1"].split())
    usage = shutil.disk_usage(tmp_path)
    assert total == usage.total
    assert abs(free - usage.free) < 1 << 30
    assert abs(time.time() * 1_000 - at_ms) < 30_000

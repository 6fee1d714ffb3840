"""What a callers file opens, and in which order its kinds are asked; without one nothing of it is even imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ingress.auth.callers_file import NOBODY, read_callers_file
from ingress.auth.oidc.tokens import Tokens
from ingress.auth.outside import open_outside
from ingress.auth.user_org.credentials import OpaqueCredentials
from ingress.http.refusals import Refusal
from ingress.http.request import Credentials
from schemas.caller_ids import is_vouched_for, of_issuer, of_user_org
from schemas.config_state import Snapshot
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics

_FILE = """
[[oidc]]
name = "corp"
issuer = "http://127.0.0.1:1"
audience = "tallygate"
org = "acme"

[user_org]
url = "http://127.0.0.1:1"
credential_prefixes = ["corp_"]
"""


async def test_a_file_opens_its_kinds_in_order(tmp_path: Path) -> None:
    """Tokens first, then what only the user-org service knows; each has a component of readiness."""
    path = tmp_path / "callers.toml"
    path.write_text(_FILE)
    outside = open_outside(read_callers_file(str(path)), None, tmp_path, Clock(), Metrics())
    tokens, opaque = outside.authenticators
    assert isinstance(tokens, Tokens)
    assert isinstance(opaque, OpaqueCredentials)
    assert list(outside.background) == ["oidc:corp"]
    assert outside.components() == {"user-org": "ok", "oidc:corp": "ok"}

    told = await opaque.tell(_shown("corp_somebody"), Snapshot(), 0)
    assert isinstance(told, Refusal)
    assert told.status == 503
    assert outside.components()["user-org"].startswith("degraded: ")
    for other in (
        "",
        "corp_é-long-enough",
        "other_kind",
        "corp_x",
        "corp_" + "x" * 600,
        "corp_a b c",
    ):
        assert await opaque.tell(_shown(other), Snapshot(), 0) is None
    await outside.stop()


def _shown(secret: str) -> Credentials:
    return Credentials(secret, is_bearer=True, head={}, headers={})


async def test_without_a_file_nothing_is_opened(tmp_path: Path) -> None:
    """Nothing runs in the background, nobody is asked, no component is told."""
    outside = open_outside(NOBODY, None, tmp_path, Clock(), Metrics())
    assert (list(outside.authenticators), outside.components()) == ([], {})
    await outside.stop()


def test_without_a_file_a_process_has_no_such_library_in_its_memory() -> None:
    """They take nine megabytes."""
    said = "import sys, ingress.app; print([m for m in ('jwt', 'cryptography.hazmat') if m in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", said], check=True, capture_output=True, text=True, timeout=60
    )
    assert told.stdout == "[]\n"


def test_an_id_says_whether_somebody_outside_vouched() -> None:
    """Keys that are made here begin otherwise."""
    assert is_vouched_for(of_issuer("corp"))
    assert is_vouched_for(of_user_org(None))
    assert is_vouched_for(of_user_org("batch-7"))
    assert not is_vouched_for("key_a1b2c3")

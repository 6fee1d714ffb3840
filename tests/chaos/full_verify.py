"""`tallygate ledger verify --full` as an operator runs it: the whole usage log from its beginning, against the ledger."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.support.harness.running_stack import TALLYGATE

CATCHES_UP_S: Final = 60.0
_WITHIN_S: Final = 300.0
_NAMED_MAX: Final = 5


@dataclass(frozen=True)
class FullVerify:
    """What the command said."""

    exit_code: int
    difference: int | None
    """``None`` when it said nothing that can be read."""
    findings: tuple[str, ...]
    """What it named, or why it failed."""


def verify_fully(admin_url: str) -> FullVerify:
    """Run the command against this stack."""
    done = subprocess.run(
        [TALLYGATE, "ledger", "verify", "--full", "--json", "--deadline-s", str(CATCHES_UP_S)],
        env={**os.environ, "TALLYGATE_ADMIN_URL": admin_url},
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    return read_verify(done.returncode, done.stdout, done.stderr)


def read_verify(exit_code: int, told: str, complained: str) -> FullVerify:
    """The command's answer; pure."""
    try:
        answer: dict[str, Any] = json.loads(told)
        findings = tuple(_findings(answer))
        difference = int(answer["difference"])
    except (ValueError, KeyError) as error:
        return FullVerify(exit_code, None, (f"exit code {exit_code}: {error!r} {complained}",))
    if exit_code and not findings:
        findings = (f"exit code {exit_code}: {complained}",)
    return FullVerify(exit_code, difference, findings)


def _findings(answer: dict[str, Any]) -> Iterator[str]:
    for each in answer["differences"][:_NAMED_MAX]:
        yield json.dumps(each)
    if answer["difference"]:
        yield f"difference {answer['difference']}"
    for shard in answer["shards"]:
        if shard["state"] != "equal":
            yield f"shard {shard['shard']} is {shard['state']}: {shard['why']}"

"""Starts the budget service of tests as a process of its own, kills it, starts it again, and reads its ledger.

Invariant: the process is gone when the `with` block is left.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from deploy.bench.running_backend import end_process
from tests.support.fakes.running_backend import REPOSITORY, STOP_DEADLINE_S


@dataclass
class RunningBudgetService:
    """The service at an address that stays the same. Its ledger is the oracle."""

    ledger: Path
    url: str = ""
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it, where it was before if it was."""
        port = self.url.rpartition(":")[2] or "0"
        module = "tests.support.fakes.budget_service"
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--port", port, "--ledger", str(self.ledger)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        assert process.stdout is not None
        self._process, self.url = process, process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the budget service ended with code {process.wait()}")

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self.stop()

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            assert self._process.stdout is not None
            self._process.stdout.close()
            end_process(self._process, STOP_DEADLINE_S)
            self._process = None

    def budget(self, org: str, usd: str, **more: Any) -> None:
        """Give an organization a budget, or a key of it."""
        self._put("budget", {"org": org, "usd": usd, **more})

    def denies(self, org: str, **answer: Any) -> None:
        """Answer the organization so from now on."""
        self._put("denied", {"org": org, "answer": answer})

    def behave(self, **mode: Any) -> None:
        """Behave so from now on; like itself when nothing is said."""
        self._put("mode", mode)

    def spent_usd(self, org: str) -> Decimal:
        """What it has counted."""
        rows = self._read("select usd from spend where org = ?", org)
        return sum((Decimal(usd) for (usd,) in rows), Decimal(0))

    def lines(self, org: str) -> list[dict[str, Any]]:
        """The spend lines that it has counted."""
        return [
            json.loads(line) for (line,) in self._read("select line from spend where org = ?", org)
        ]

    def checks(self, org: str) -> list[tuple[float, dict[str, Any], dict[str, Any]]]:
        """When it was asked, what, and what it answered."""
        rows = self._read("select at, question, answer from checks where org = ? order by at", org)
        return [(at, json.loads(question), json.loads(answer)) for at, question, answer in rows]

    def _read(self, query: str, org: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.ledger, timeout=10)) as ledger:
            return ledger.execute(query, (org,)).fetchall()

    def _put(self, what: str, body: dict[str, Any]) -> None:
        httpx.put(f"{self.url}/test/{what}", json=body, trust_env=False).raise_for_status()


@contextmanager
def running_budget_service(folder: Path) -> Iterator[RunningBudgetService]:
    """The service on a free port, with an empty ledger."""
    service = RunningBudgetService(folder / "budget-service.sqlite")
    service.start()
    try:
        yield service
    finally:
        service.stop()

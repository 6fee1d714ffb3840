"""Infrastructure alone: real Kafka and both Valkeys, on free ports."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.embedded.ledger_shape import LedgerShape
from deploy.embedded.process import Progress
from deploy.embedded.stack import Stack
from deploy.embedded.stack_options import StackOptions
from deploy.embedded.state import UserFolders
from tests.support.harness.wanted_ledger import wanted_ledger


@asynccontextmanager
async def infrastructure(
    state_dir: Path, ledger: LedgerShape | None = None
) -> AsyncIterator[Stack]:
    """Kafka and the stores on random ports; of the ledger as many as are given, or as the environment wants."""
    options = StackOptions(
        state_dir=state_dir,
        cache_dir=UserFolders().cache,
        environment=dict(os.environ),
        is_infrastructure_only=True,
        ledger=ledger or wanted_ledger(os.environ),
        has_random_ports=True,
    )
    lines: list[Progress] = []
    stack = Stack(options, report=lines.append)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()

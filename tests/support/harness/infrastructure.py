"""Infrastructure alone: real Kafka and both Valkeys, on free ports."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.embedded.process import Progress
from deploy.embedded.stack import Stack, StackOptions
from deploy.embedded.state import UserFolders
from tests.support.harness.wanted_ledger import wanted_ledger


@asynccontextmanager
async def infrastructure(state_dir: Path) -> AsyncIterator[Stack]:
    """Kafka and both Valkeys on random ports."""
    options = StackOptions(
        state_dir=state_dir,
        cache_dir=UserFolders().cache,
        environment=dict(os.environ),
        is_infrastructure_only=True,
        ledger=wanted_ledger(os.environ),
        has_random_ports=True,
    )
    lines: list[Progress] = []
    stack = Stack(options, report=lines.append)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()

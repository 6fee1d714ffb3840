"""`tallygate up --headless` with more than one process of a role, which the command line cannot ask.

Run as a module: the state folder, the replicas by role as JSON, then one `ID=URL` per backend.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from deploy.embedded.up import UpOptions, run_up
from tests.support.harness.wanted_ledger import USERS, wanted_ledger


def main() -> int:
    """Run until a signal."""
    state_dir, replicas, *backends = sys.argv[1:]
    options = UpOptions(
        port=0,
        admin_port=0,
        state_dir=Path(state_dir),
        backends=tuple(backends),
        headless=True,
        replicas=json.loads(replicas),
        ledger=wanted_ledger(os.environ),
        has_store_users=USERS in os.environ,
    )
    return asyncio.run(run_up(options))


if __name__ == "__main__":
    sys.exit(main())

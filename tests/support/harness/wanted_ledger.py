"""How many servers carry the ledger of every stack that tests start: one, unless the environment says so.

`TALLYGATE_TEST_LEDGER_PRIMARIES=3` runs any suite against a cluster; `TALLYGATE_TEST_LEDGER_REPLICAS` adds copies.
"""

from __future__ import annotations

from collections.abc import Mapping

from deploy.embedded.ledger_shape import LedgerShape

PRIMARIES = "TALLYGATE_TEST_LEDGER_PRIMARIES"
REPLICAS = "TALLYGATE_TEST_LEDGER_REPLICAS"
USERS = "TALLYGATE_TEST_STORE_USERS"
"""Whatever its value: each process is a user of its own in the stores."""


def wanted_ledger(environment: Mapping[str, str]) -> LedgerShape | None:
    """The shape to ask for; `None` where the environment says nothing."""
    if PRIMARIES not in environment:
        return None
    return LedgerShape(int(environment[PRIMARIES]), int(environment.get(REPLICAS, "0")))

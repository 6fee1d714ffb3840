"""What docs/replay.md says is so: each recipe is shown by a test or a script that is there."""

from __future__ import annotations

import re

from schemas.kafka_users import KAFKA_USERS
from schemas.store_users import LEDGER_USERS
from schemas.topics import BACKGROUND, CONFIG, OUTCOMES, REQUESTS, USAGE_RECORDS, group_of
from tests.support.calls_in_code import ROOT


def test_every_recipe_names_what_shows_it() -> None:
    """A script that was renamed takes its recipe along."""
    page = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*) \| (.*) \| `(tests/[^`]*)` \|$", page, re.MULTILINE)

    assert len(rows) >= 9
    assert [test for _, _, test in rows if not (ROOT / test).is_file()] == []


def test_the_user_of_accounting_may_read_what_a_replay_reads() -> None:
    """As the page says: topics, the group whose offsets are asked for, and the ledger."""
    in_kafka, in_store = KAFKA_USERS["accounting"], LEDGER_USERS["accounting"]

    assert {OUTCOMES, USAGE_RECORDS, REQUESTS, BACKGROUND, CONFIG} <= {*in_kafka.reads}
    assert group_of("accounting") in in_kafka.groups
    assert {"hgetall"} <= {*in_store.commands}

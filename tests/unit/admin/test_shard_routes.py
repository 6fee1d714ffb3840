"""What people are told of a shard follows from its meta."""

from __future__ import annotations

import pytest

from ingress.admin.finance.shard_routes import shard_document

_WHOLE = {"epoch": "7", "ready": "1", "complete": "1", "booked": "41", "ready_ms": "5"}


@pytest.mark.parametrize(
    ("meta", "state"),
    [
        ({}, "empty"),
        (_WHOLE, "whole"),
        (_WHOLE | {"complete": "0", "building": "7:t"}, "completing"),
        (_WHOLE | {"ready": "0", "building": "8:t"}, "rebuilding"),
        (_WHOLE | {"ready": "0", "why": "restarted"}, "closed"),
    ],
)
def test_the_state_of_a_shard(meta: dict[str, str], state: str) -> None:
    """Whether it decides, and what is left to do."""
    assert shard_document(3, meta)["state"] == state


def test_a_document_has_what_is_known() -> None:
    """Numbers as numbers; what a trial found under its token."""
    found = '{"shard":3,"balances":1,"records":9,"differences":[]}'
    document = shard_document(3, _WHOLE | {"records": "9", "found": f"token {found}"})
    assert (document["epoch"], document["booked"], document["records"]) == (7, 41, 9)
    assert document["trial"] == "token"
    assert document["found"]["balances"] == 1
    assert "found" not in shard_document(3, _WHOLE)

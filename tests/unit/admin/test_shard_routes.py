"""What people are told of a shard follows from its meta."""

from __future__ import annotations

import pytest

from ingress.admin.finance.shard_routes import server_document, shard_document

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


def test_a_shard_that_another_store_has_by_now_does_not_decide() -> None:
    """Its own says that it is ready; the log has announced a later life."""
    behind = shard_document(3, _WHOLE, announced=8)
    assert (behind["state"], behind["decides"]) == ("behind", False)
    assert shard_document(3, _WHOLE, announced=7)["decides"]


def test_a_server_tells_whether_it_keeps_what_it_acknowledged() -> None:
    """In the words of INFO; what it does not say is not known."""
    info = b"tcp_port:6390\r\n# Memory\r\nmaxmemory:9\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"
    assert server_document(info + b"aof_last_write_status:ok\r\n") == {
        "port": 6390,
        "maxmemory_bytes": 9,
        "policy": "noeviction",
        "appends": True,
        "last_write": "ok",
    }
    assert not server_document(b"")["appends"]

"""Calls are values: which keys they name, how they read replies."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec
import pytest

from schemas.ledger import answers, calls, documents
from schemas.ledger.errors import LedgerFault, LedgerNotReady
from schemas.runtime.ledger import script
from tests.support.one_shard import SHARD

REQUEST = documents.Renew(org="acme", req="r1", fence=2**32 + 1, lease_ms=1_000)


def test_a_call_names_every_key_of_its_function() -> None:
    """FCALL, name, key count, keys, document."""
    command = calls.renew(7, REQUEST).command
    assert command[:7] == (
        "FCALL",
        "tg1_renew",
        "4",
        "{7}|meta",
        "{7}|acme|a:r1",
        "{7}|exp",
        "{7}|inf",
    )
    document = command[7]
    assert isinstance(document, bytes)
    assert msgspec.json.decode(document)["fence"] == 2**32 + 1


def test_a_document_of_every_request_leaves_out_defaults() -> None:
    """What stands in it is decoded in the ledger, one request after the other."""
    document = calls.renew(7, REQUEST).command[7]
    assert document == b'{"org":"acme","req":"r1","fence":4294967297,"lease_ms":1000}'


def test_an_outcome_travels_behind_the_document() -> None:
    """Outcome bytes are an argument of their own, so JSON never touches them."""
    document = documents.Finish(org="acme", req="r1", fence=1)
    assert calls.finish(SHARD, document, b"\x00\xff").command[-1] == b"\x00\xff"


def test_money_is_read_from_decimal_strings() -> None:
    """Amounts beyond 14 digits survive, because they come as text."""
    reply = (
        b'{"v":"CONTENDED","id":"m","usage":"9007199254740991","limit":"1","retry_after_ms":1000}'
    )
    document = documents.Admit(org="acme", req="r1", deadline_ms=2, accepted_ms=1)
    contended = calls.admit(SHARD, document).decode(reply)
    assert contended == answers.Contended(id="m", usage=2**53 - 1, limit=1, retry_after_ms=1_000)


def test_a_reply_with_bytes_carries_the_outcome() -> None:
    """[JSON, bytes] becomes an answer that holds the bytes."""
    document = documents.Finish(org="acme", req="r1", fence=1)
    answer = calls.finish(SHARD, document, b"").decode([b'{"v":"DUPLICATE"}', b"\x00"])
    assert answer == answers.Repeated(outcome=b"\x00")


def test_a_ledger_that_is_not_ready_raises() -> None:
    """NOT_READY is no verdict on the request, so no caller can mistake it for one."""
    with pytest.raises(LedgerNotReady):
        calls.renew(SHARD, REQUEST).decode(b'{"v":"NOT_READY"}')


def test_a_verdict_that_a_function_cannot_give_is_an_error() -> None:
    """An unknown tag fails loudly instead of passing as something else."""
    with pytest.raises(LedgerFault):
        calls.renew(SHARD, REQUEST).decode(b'{"v":"ADMITTED"}')


def test_every_lua_file_is_part_of_the_library() -> None:
    """A file that is not listed would silently be missing."""
    folder = Path(script.__file__).parent / "lua"
    assert {path.stem for path in folder.glob("*.lua")} == set(script.FILES)
    assert script.library().startswith(f"#!lua name={script.FAMILY}{script.REVISION}\n")


def test_every_function_states_its_contract() -> None:
    """Each registered function has a header with keys, arguments, answers and state change."""
    source = script.library()
    registered = set(re.findall(r"^(?:redis\.)?register\w*\('(tg1_\w+)'", source, re.MULTILINE))
    headers = dict(re.findall(r"--\[\[ (tg1_\w+): (.*?)\]\]", source, re.DOTALL))
    assert registered == set(headers)
    assert len(registered) == 42
    for header in headers.values():
        assert all(part in header for part in ("KEYS:", "ARGV[1]:", "Returns:", "State:"))


def test_only_what_takes_something_new_is_refused_by_a_full_store() -> None:
    """Whatever closes, returns or books runs in it, so that it empties itself."""
    ends = re.findall(
        r"^(?:redis\.)?register\w*\('(tg1_\w+)', \w+(.*)\)", script.library(), re.MULTILINE
    )
    refused = {name for name, flags in ends if not flags}

    assert refused == {
        "tg1_admit",
        "tg1_readmit",
        "tg1_restore",
        "tg1_claim",
        "tg1_job",
        "tg1_init",
    }
    assert {flags for _, flags in ends if flags} == {", EMPTIES", ", {'no-writes'}"}


def test_a_change_of_the_functions_raises_their_revision() -> None:
    """A process replaces older functions only by their revision: raise it, then note both here.

    Only where nothing but words changed may the revision stay.
    """
    source = script.library().partition("\n")[2]
    assert (script.REVISION, hashlib.sha256(source.encode()).hexdigest()) == (
        13,
        "c16e9149b49fa1159596bb41dd114f89793fb67625ac0563f3e4707008227000",
    )

"""A record of the configuration is believed of whoever may write it, and of nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config_signing import HEADER, read_signer, read_verifier, signed
from schemas.events import ConfigEntry
from schemas.outgoing import Outgoing, config_record, epoch_record

ADMIN, ACCOUNTING, STRANGER = (
    read_signer("admin", "01" * 32),
    read_signer("accounting", "02" * 32),
    read_signer("admin", "03" * 32),
)
KEYS = f"admin={ADMIN.public},accounting={ACCOUNTING.public}"
RECORD = config_record(
    ConfigEntry(
        kind="organization", id="acme", version=1, body="{}", written_at_ms=7, written_by="admin"
    )
)


def fault(record: Outgoing, keys: str = KEYS) -> str | None:
    """What is wrong with the record."""
    verifier = read_verifier(keys)
    assert verifier is not None
    return verifier.fault(record.key, record.value, record.headers)


def test_what_a_signer_wrote_is_believed_and_what_nobody_signed_is_not() -> None:
    """Whatever else stands in the headers."""
    assert fault(signed(RECORD, ADMIN)) is None
    assert fault(signed(RECORD, None)) == "it is not signed"


def test_a_key_that_nobody_was_told_of_signs_for_nobody() -> None:
    """Although it says that it is the control plane's."""
    assert fault(signed(RECORD, STRANGER)) == "its signature is not that of admin"


def test_accounting_may_announce_epochs_and_nothing_else() -> None:
    """The control plane may write these too, to sign them again."""
    epoch = epoch_record(3, 9, 7)

    assert fault(signed(epoch, ACCOUNTING)) is None
    assert fault(signed(epoch, ADMIN)) is None
    assert fault(signed(RECORD, ACCOUNTING)) == "accounting may not write it"


@given(st.integers(0, 1_000), st.integers(1, 255), st.booleans())
def test_one_changed_bit_of_key_value_or_signature_is_seen(
    at: int, bits: int, of_key: bool
) -> None:
    """Each byte of all three counts."""
    record = signed(RECORD, ADMIN)
    *others, (name, said) = record.headers

    def changed(text: bytes) -> bytes:
        place = at % len(text)
        return text[:place] + bytes([text[place] ^ bits]) + text[place + 1 :]

    assert record.value is not None
    key, value = (
        (changed(record.key), record.value) if of_key else (record.key, changed(record.value))
    )
    assert fault(Outgoing(record.topic, key, value, record.headers)) is not None
    assert fault(Outgoing(record.topic, record.key, record.value, [*others, (name, changed(said))]))


def test_a_signature_is_of_key_and_value_apart_and_of_one_record() -> None:
    """No byte moves from one to the other, a tombstone is no empty value, and two signatures are none."""
    record = signed(RECORD, ADMIN)
    assert record.value is not None
    moved = Outgoing(record.topic, record.key + record.value[:1], record.value[1:], record.headers)
    tombstone = signed(Outgoing(record.topic, record.key, None), ADMIN)
    twice = Outgoing(record.topic, record.key, record.value, [*record.headers, record.headers[-1]])

    assert fault(moved) is not None
    assert fault(tombstone) is None
    assert fault(Outgoing(record.topic, record.key, b"", tombstone.headers)) is not None
    assert fault(twice) == "it has several signatures"


@pytest.mark.parametrize(
    "said", [b"", b"admin", b"admin:", b"admin:!", b"root:AA==", b"\xff:AA==", b"admin:AA=="]
)
def test_what_is_no_signature_is_a_fault_and_no_error(said: bytes) -> None:
    """It comes from outside."""
    assert fault(Outgoing(RECORD.topic, RECORD.key, RECORD.value, [(HEADER, said)])) is not None


def test_a_key_is_changed_by_two_that_hold_at_once() -> None:
    """Until everything is signed by the new one."""
    both = f"{KEYS},admin={STRANGER.public}"

    assert fault(signed(RECORD, STRANGER), both) is None
    assert fault(signed(RECORD, ADMIN), both) is None


@pytest.mark.parametrize(
    "listed",
    [
        "admin",
        "admin=",
        "admin=zz",
        "root=" + "0" * 64,
        "accounting=" + "0" * 64,
        "admin=" + "0" * 62,
    ],
)
def test_keys_that_are_none_are_refused(listed: str) -> None:
    """At the start, with a sentence."""
    with pytest.raises(ValueError, match=r"hex|signers|admin"):
        read_verifier(listed)


def test_without_keys_everybody_is_believed() -> None:
    """As before there were any."""
    assert read_verifier(" ") is None

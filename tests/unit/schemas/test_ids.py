"""Request ids carry their time; API keys carry their checksum."""

from __future__ import annotations

import string
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import (
    KEY_RANDOM_BYTES,
    UUID7_RANDOM_BYTES,
    api_key,
    api_key_hash,
    is_api_key,
    uuid7,
    uuid7_time_ms,
)

_TIMES_MS = st.integers(0, 2**48 - 1)
_RANDOM = st.binary(min_size=UUID7_RANDOM_BYTES, max_size=UUID7_RANDOM_BYTES)
_KEYS = st.binary(min_size=KEY_RANDOM_BYTES, max_size=KEY_RANDOM_BYTES).map(api_key)


@given(_TIMES_MS, _RANDOM)
def test_a_request_id_is_a_uuid7_that_carries_its_time(now_ms: int, random_bytes: bytes) -> None:
    """Version 7, RFC variant, milliseconds readable."""
    parsed = uuid.UUID(uuid7(now_ms, random_bytes))

    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert uuid7_time_ms(str(parsed)) == now_ms


@given(_TIMES_MS, _TIMES_MS, _RANDOM, _RANDOM)
def test_request_ids_sort_by_time(
    one_ms: int, other_ms: int, one_random: bytes, other_random: bytes
) -> None:
    """As text, whatever their random bits are."""
    if one_ms != other_ms:
        one, other = uuid7(one_ms, one_random), uuid7(other_ms, other_random)
        assert (one < other) == (one_ms < other_ms)


@given(_RANDOM, _RANDOM)
def test_different_random_bits_give_different_ids(one: bytes, other: bytes) -> None:
    """Except for the six bits that version and variant overwrite."""
    mask = ~((0xF << 76) | (0x3 << 62))
    same = int.from_bytes(one) & mask == int.from_bytes(other) & mask

    assert (uuid7(1, one) == uuid7(1, other)) == same


@pytest.mark.parametrize(
    "text", ["", "abc", str(uuid.UUID(int=0)), f"{uuid.uuid5(uuid.NAMESPACE_DNS, 'x')}"]
)
def test_an_id_of_another_kind_has_no_time(text: str) -> None:
    """A client's own UUID is never read as one of ours."""
    with pytest.raises(ValueError, match=r".+"):
        uuid7_time_ms(text)


@given(_KEYS)
def test_a_new_key_is_recognised(key: str) -> None:
    """Prefix, 30 characters, 6 of checksum."""
    assert is_api_key(key)
    assert len(key) == len("tg_live_") + 36


@given(_KEYS, st.data())
def test_every_change_of_one_character_is_found(key: str, data: st.DataObject) -> None:
    """A typo is refused without a look-up."""
    place = data.draw(st.integers(0, len(key) - 1))
    typed = data.draw(st.sampled_from(string.printable))
    changed = key[:place] + typed + key[place + 1 :]

    assert is_api_key(changed) == (changed == key)


def test_a_key_is_not_recognised_with_anything_around_it() -> None:
    """Also not with a newline, which ``$`` would let pass, or with its checksum twice."""
    key = api_key(bytes(32))

    assert not any(
        is_api_key(text) for text in (f"{key}\n", f" {key}", key[:-1], f"{key}{key[-6:]}", "")
    )


def test_the_stored_hash_depends_on_key_and_pepper() -> None:
    """HMAC-SHA256 in hex; the value of one pair is fixed for ever, because it is stored."""
    assert api_key_hash(b"pepper", "tg_live_x") == (
        "0d4bc567c5f937d2d0d13891348db2389800ac8b579fca49e2cd9a98c497e085"
    )
    assert api_key_hash(b"pepper", "tg_live_x") != api_key_hash(b"salt", "tg_live_x")

"""API keys as values."""

from __future__ import annotations

import re

import msgspec

from ingress.admin.config import api_keys
from ingress.admin.config.entities import fields_of
from ingress.admin.http.refusal import Refusal
from schemas.entities import Key
from schemas.ids import api_key_hash, is_api_key, signing_secret
from schemas.peppers import Peppers, pepper_name
from tests.support.configuration import PEPPER

RANDOMNESS = bytes(range(48))
MINTED = api_keys.mint(api_keys.NewKey(org="acme", name="ci"), PEPPER, None, RANDOMNESS, 1_000)


def edited(edit: object, key: Key | None) -> Key | Refusal:
    assert callable(edit)
    result = edit(key)
    assert isinstance(result, Key | Refusal)
    return result


def test_a_minted_key_has_the_form_that_the_door_accepts() -> None:
    """What is handed out passes the checksum, and what is stored is its hash."""
    assert is_api_key(MINTED.secret.text)
    assert MINTED.entity.hash == api_key_hash(PEPPER, MINTED.secret.text)
    assert re.fullmatch(r"key_[0-9A-Za-z]{12}", MINTED.key_id)


def test_what_is_stored_and_shown_does_not_contain_the_secret() -> None:
    """Neither the entry nor the view of an administrator gives a key away."""
    stored = msgspec.json.encode(MINTED.entity).decode()

    assert MINTED.secret.text not in stored
    assert "hash" not in fields_of(MINTED.entity)
    assert len(MINTED.entity.display) < len(MINTED.secret.text) // 2


def test_other_randomness_gives_another_key() -> None:
    """Both the secret and the id depend on it."""
    other = api_keys.mint(
        api_keys.NewKey(org="acme"), PEPPER, None, bytes(reversed(RANDOMNESS)), 1_000
    )

    assert other.secret != MINTED.secret
    assert other.key_id != MINTED.key_id


def test_an_id_that_is_taken_is_not_overwritten() -> None:
    """Creating never replaces a key."""
    assert isinstance(edited(api_keys.creation(MINTED.entity), MINTED.entity), Refusal)


def test_revoking_again_keeps_the_first_time() -> None:
    """When a key ended does not move."""
    once = edited(api_keys.revocation("k", 5_000), MINTED.entity)
    assert isinstance(once, Key)
    twice = edited(api_keys.revocation("k", 9_000), once)

    assert isinstance(twice, Key)
    assert twice.revoked_at_ms == 5_000


SIGNING = Peppers((b"a pepper to derive signing secrets",))
_NEXT = api_keys.new_secret(PEPPER, bytes(reversed(range(32))))


def _rotated(key: Key, grace_s: float, now_ms: int) -> Key | Refusal:
    secret = api_keys.new_secret(PEPPER, now_ms.to_bytes(32))
    return edited(api_keys.rotation("k", secret, SIGNING, grace_s, now_ms), key)


def test_a_rotated_key_stays_the_key_that_it_was() -> None:
    """Another secret, the next generation; owner, limits and everything else stay."""
    key = msgspec.structs.replace(MINTED.entity, models=("m",), scopes=("jobs",))

    rotated = edited(api_keys.rotation("k", _NEXT, Peppers(()), 60, 5_000), key)

    assert isinstance(rotated, Key)
    assert (rotated.hash, rotated.generation) == (_NEXT.hash, 2)
    assert [(old.hash, old.generation, old.expires_at_ms) for old in rotated.earlier] == [
        (key.hash, 1, 65_000)
    ]
    changed = ("hash", "display", "generation", "earlier")
    before = {name: getattr(key, name) for name in changed}
    assert msgspec.structs.replace(rotated, **before) == key


def test_without_a_grace_every_earlier_secret_ends() -> None:
    """Whoever rotates a key that leaked need not know which of its secrets did."""
    once = _rotated(MINTED.entity, 3_600, 5_000)
    assert isinstance(once, Key)
    twice = _rotated(once, 0, 6_000)

    assert isinstance(twice, Key)
    assert (twice.generation, twice.earlier) == (3, ())


def test_a_later_grace_prolongs_no_earlier_secret() -> None:
    """Nor does it end one that still works: a rotation whose answer was lost can be done again."""
    once = _rotated(MINTED.entity, 60, 0)
    assert isinstance(once, Key)
    twice = _rotated(once, 3_600, 10_000)

    assert isinstance(twice, Key)
    assert [old.expires_at_ms for old in twice.earlier] == [60_000, 3_610_000]


def test_what_is_over_is_forgotten() -> None:
    """An entry does not grow with the years."""
    once = _rotated(MINTED.entity, 60, 0)
    assert isinstance(once, Key)
    twice = _rotated(once, 60, 60_000)

    assert isinstance(twice, Key)
    assert [old.generation for old in twice.earlier] == [2]


def test_more_living_secrets_than_four_are_refused() -> None:
    """With what to do, and nothing that works is ended."""
    key: Key | Refusal = MINTED.entity
    for number in range(4):
        assert isinstance(key, Key)
        key = _rotated(key, 3_600, number)
    assert isinstance(key, Key)
    refused = _rotated(key, 3_600, 5)

    assert isinstance(refused, Refusal)
    assert (refused.code, "without a grace" in refused.detail) == ("version_conflict", True)
    assert isinstance(_rotated(key, 0, 5), Key)


def test_a_revoked_key_is_not_rotated() -> None:
    """It would look as if it worked again."""
    revoked = msgspec.structs.replace(MINTED.entity, revoked_at_ms=1)

    assert isinstance(_rotated(revoked, 0, 5), Refusal)


def test_a_change_of_fields_keeps_owner_and_secret() -> None:
    """What a PUT cannot say, it cannot change."""
    changed = edited(api_keys.fields_change("k", api_keys.KeyFields(name="new")), MINTED.entity)

    assert isinstance(changed, Key)
    assert changed.name == "new"
    assert (changed.org, changed.hash) == (MINTED.entity.org, MINTED.entity.hash)


def test_changing_an_unknown_key_is_refused() -> None:
    """There is no key to be made by PUT."""
    assert isinstance(edited(api_keys.fields_change("k", api_keys.KeyFields()), None), Refusal)


def test_a_signed_key_has_a_secret_that_nobody_keeps() -> None:
    """It is derived from the key's id and generation; what is stored is which pepper it takes."""
    wanted = api_keys.NewKey(org="acme", signed=True)
    name = api_keys.signing_name(wanted, SIGNING)
    assert isinstance(name, str)
    minted = api_keys.mint(wanted, PEPPER, name, RANDOMNESS, 1_000)
    told = api_keys.signing_secret_of(minted.key_id, minted.entity, SIGNING)

    assert told == signing_secret(SIGNING.current, minted.key_id, 1)
    assert minted.entity.signing == pepper_name(SIGNING.current)
    assert told not in msgspec.json.encode(minted.entity).decode()


def test_rotating_a_signed_key_gives_another_signing_secret() -> None:
    """Of the next generation and the current pepper; the one before keeps its own."""
    newer = Peppers((b"another pepper of 32 characters!", SIGNING.current))
    key = msgspec.structs.replace(MINTED.entity, signing=pepper_name(SIGNING.current))
    rotated = edited(api_keys.rotation("k", _NEXT, newer, 60, 0), key)

    assert isinstance(rotated, Key)
    assert api_keys.signing_secret_of("k", rotated, newer) == signing_secret(newer.current, "k", 2)
    assert [old.signing for old in rotated.earlier] == [pepper_name(SIGNING.current)]


def test_without_a_pepper_for_signing_no_signed_key_is_made() -> None:
    """Nor rotated into one that nobody could sign for; what to set is said."""
    made = api_keys.signing_name(api_keys.NewKey(org="acme", signed=True), Peppers(()))
    key = msgspec.structs.replace(MINTED.entity, signing=pepper_name(SIGNING.current))
    rotated = edited(api_keys.rotation("k", _NEXT, Peppers(()), 60, 0), key)

    for refusal in (made, rotated):
        assert isinstance(refusal, Refusal)
        assert "TALLYGATE_SIGNING_PEPPER" in refusal.detail
    assert api_keys.signing_name(api_keys.NewKey(org="acme"), Peppers(())) is None

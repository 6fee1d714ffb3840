"""API keys as values."""

from __future__ import annotations

import re

import msgspec

from ingress.admin.config import api_keys
from ingress.admin.config.entities import fields_of
from ingress.admin.http.refusal import Refusal
from schemas.entities import Key
from schemas.ids import api_key_hash, is_api_key

PEPPER = b"pepper"
RANDOMNESS = bytes(range(48))
MINTED = api_keys.mint(api_keys.NewKey(org="acme", name="ci"), PEPPER, RANDOMNESS, 1_000)


def edited(edit: object, key: Key | None) -> Key | Refusal:
    assert callable(edit)
    result = edit(key)
    assert isinstance(result, Key | Refusal)
    return result


def test_a_minted_key_has_the_form_that_the_door_accepts() -> None:
    """What is handed out passes the checksum, and what is stored is its hash."""
    assert is_api_key(MINTED.secret)
    assert MINTED.entity.hash == api_key_hash(PEPPER, MINTED.secret)
    assert re.fullmatch(r"key_[0-9A-Za-z]{12}", MINTED.key_id)


def test_what_is_stored_and_shown_does_not_contain_the_secret() -> None:
    """Neither the entry nor the view of an administrator gives a key away."""
    stored = msgspec.json.encode(MINTED.entity).decode()

    assert MINTED.secret not in stored
    assert "hash" not in fields_of(MINTED.entity)
    assert len(MINTED.entity.display) < len(MINTED.secret) // 2


def test_other_randomness_gives_another_key() -> None:
    """Both the secret and the id depend on it."""
    other = api_keys.mint(api_keys.NewKey(org="acme"), PEPPER, bytes(reversed(RANDOMNESS)), 1_000)

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


def test_retiring_never_prolongs_a_key() -> None:
    """A key that expires earlier than the grace still does."""
    key = msgspec.structs.replace(MINTED.entity, expires_at_ms=2_000)

    retired = edited(api_keys.retirement("k", 9_000), key)

    assert isinstance(retired, Key)
    assert retired.expires_at_ms == 2_000


def test_a_change_of_fields_keeps_owner_and_secret() -> None:
    """What a PUT cannot say, it cannot change."""
    changed = edited(api_keys.fields_change("k", api_keys.KeyFields(name="new")), MINTED.entity)

    assert isinstance(changed, Key)
    assert changed.name == "new"
    assert (changed.org, changed.hash) == (MINTED.entity.org, MINTED.entity.hash)


def test_changing_an_unknown_key_is_refused() -> None:
    """There is no key to be made by PUT."""
    assert isinstance(edited(api_keys.fields_change("k", api_keys.KeyFields()), None), Refusal)


def test_a_successor_has_everything_but_the_secret() -> None:
    """Rotation keeps limits, owner and models."""
    key = msgspec.structs.replace(MINTED.entity, models=("m",), user="u")

    wanted = api_keys.successor(key)

    assert (wanted.org, wanted.name, wanted.models, wanted.user) == ("acme", "ci", ("m",), "u")

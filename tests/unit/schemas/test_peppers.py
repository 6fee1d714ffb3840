"""Peppers by name."""

from __future__ import annotations

from schemas.peppers import Peppers, pepper_name


def test_a_name_tells_which_pepper_it_was() -> None:
    """And nothing more: without a note, or of a pepper that is gone, it is unknown."""
    old, new, gone = b"o" * 32, b"n" * 32, b"g" * 32
    peppers = Peppers((new, old))

    ages = [peppers.age_of(name) for name in (*map(pepper_name, (new, old, gone)), None)]

    assert ages == ["current", "previous", "unknown", "unknown"]
    assert peppers.current == new


def test_no_pepper_is_shown() -> None:
    """A value that is printed by accident gives nothing away."""
    assert "secret" not in repr(Peppers((b"secret" * 6,)))

"""What is remembered of the user-org service: for how long, and how much of it."""

from __future__ import annotations

from ingress.auth.user_org.answers import Found, Known, Unknown
from ingress.auth.user_org.memory import Memory


def _memory(entries_max: int = 16, bytes_max: int = 1_000_000) -> Memory:
    return Memory(entries_max, fresh_s=30, unknown_s=10, stale_s=60, bytes_max=bytes_max)


def _found(size_bytes: int = 100) -> Found:
    return Found(Known(org="acme"), None, size_bytes)


def test_an_answer_is_fresh_then_usable_then_nothing() -> None:
    """That nobody is known is fresh for a shorter time, and usable never."""
    memory = _memory()
    memory.note(b"ada", _found(), 100.0)
    memory.note(b"eve", Unknown(), 100.0)
    ada, eve = memory.find(b"ada"), memory.find(b"eve")
    assert ada is not None
    assert eve is not None

    assert [memory.is_fresh(ada, at_s) for at_s in (129.9, 130.0)] == [True, False]
    assert [memory.is_fresh(eve, at_s) for at_s in (109.9, 110.0)] == [True, False]
    assert [memory.is_usable(ada, at_s) for at_s in (189.9, 190.0)] == [True, False]
    assert not memory.is_usable(eve, 111.0)
    assert [memory.is_ageing(ada, at_s) for at_s in (114.9, 115.0)] == [False, True]


def test_who_was_not_asked_about_for_longest_is_forgotten() -> None:
    """By number and by bytes; who is asked about stays."""
    memory = _memory(entries_max=3, bytes_max=3_000)
    for who in (b"a", b"b", b"c"):
        memory.note(who, _found(), 0.0)
    memory.find(b"a")
    memory.note(b"d", _found(), 0.0)
    assert [memory.find(who) is not None for who in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]

    memory.note(b"large", _found(2_000), 0.0)
    assert len(memory) == 1
    memory.note(b"larger", _found(3_000), 0.0)
    assert len(memory) == 0


def test_strangers_make_nobody_forgotten() -> None:
    """They have bounds of their own; and who becomes known is no stranger any more."""
    memory = _memory(entries_max=2)
    memory.note(b"ada", _found(), 0.0)
    for n in range(10):
        memory.note(b"%d" % n, Unknown(), 0.0)
    assert memory.find(b"ada") is not None
    assert len(memory) == 3

    memory.note(b"9", _found(), 1.0)
    memory.note(b"ada", Unknown(), 1.0)
    assert len(memory) == 3
    found = memory.find(b"ada")
    assert found is not None
    assert found.said == Unknown()

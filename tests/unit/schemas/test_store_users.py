"""What a process may do in a store: written down, and read off the functions that it calls."""

from __future__ import annotations

import pytest

from schemas.runtime.store_commands import inner_commands
from schemas.store_users import CONNECTING, USERS, StoreKind, StoreUser

DANGEROUS = {
    "flushall",
    "flushdb",
    "keys",
    "config",
    "shutdown",
    "debug",
    "acl",
    "monitor",
    "rename",
}


def test_commands_are_read_off_the_functions() -> None:
    """Also those that are called so that their failure is an answer."""
    assert {"hset", "zadd", "hgetall", "time"} <= inner_commands("ledger")
    assert {"xadd", "publish"} <= inner_commands("bus")


def test_rules_begin_with_nothing_and_name_every_right() -> None:
    """What is not named is not allowed."""
    user = StoreUser(("get",), ("~a:*", "%R~b:*"), ("c:*",))

    words = user.rules({"hset"}).split()

    assert words[:3] == ["resetkeys", "resetchannels", "-@all"]
    assert {"~a:*", "%R~b:*", "&c:*", "+get", "+hset", "+fcall"} <= {*words}
    assert {f"+{command}" for command in CONNECTING} <= {*words}


@pytest.mark.parametrize("store", USERS)
def test_no_process_has_a_dangerous_command(store: StoreKind) -> None:
    """Nor a whole category of them."""
    for role, user in USERS[store].items():
        rights = {word for word in user.rules(inner_commands(store)).split() if word[0] == "+"}
        assert not {f"+{command}" for command in DANGEROUS} & rights, role
        assert not [right for right in rights if right.startswith("+@")], role

"""The generated page of the stores' users."""

from __future__ import annotations

from deploy.reference.markdown import code, page, table
from schemas.runtime.store_commands import inner_commands
from schemas.store_users import CONNECTING, USERS, StoreKind


def store_users_page() -> str:
    """Who may do what in ledger and bus, and the file that says so to a store."""
    parts: list[str] = []
    for store in USERS:
        parts += [f"## The {store}", _users(store), _inside(store), _file(store)]
    return page(
        "Users of the stores",
        "the users of the stores and the sources of their functions",
        "Each process is a user of its own, with the commands that it sends and the keys and channels that they touch. "
        "What a function does inside is done in the caller's name, so its commands are allowed too. A user bounds what a "
        "leaked password is good for: other keys, the store's configuration, emptying it. It does not check what a "
        "process may decide. `%R~` may be read only.",
        "Put the lines into the file that `aclfile` names, with passwords of your own, turn the user `default` off, and "
        "write name and password into the addresses: `redis://dispatcher:PASSWORD@host:6379/0`. `tallygate up "
        "--store-users` does the same here, but leaves `default` on for this machine's tools. Every user may also: "
        + ", ".join(map(code, sorted(CONNECTING)))
        + ".",
        *parts,
    )


def _users(store: StoreKind) -> str:
    rows = [
        (
            code(role),
            " ".join(map(code, user.keys)),
            " ".join(map(code, user.channels)),
            ", ".join(map(code, ("fcall", *user.commands))),
        )
        for role, user in USERS[store].items()
    ]
    return table(("user", "keys", "channels", "commands beside these"), rows)


def _inside(store: StoreKind) -> str:
    return "Inside its functions: " + ", ".join(map(code, sorted(inner_commands(store)))) + "."


def _file(store: StoreKind) -> str:
    inner = inner_commands(store)
    lines = [f"user {role} on >PASSWORD {user.rules(inner)}" for role, user in USERS[store].items()]
    return "\n".join(["```", *lines, "```"])

"""The file in which a store reads its users, and their passwords: each is derived from one secret of the stack."""

from __future__ import annotations

import hashlib
import hmac

from schemas.runtime.store_commands import inner_commands
from schemas.store_users import USERS, StoreKind

_EVERYTHING = "user default on nopass sanitize-payload ~* &* +@all"
"""Who comes without a name: the tools of this machine's user, and replicas."""


def password_of(secret: str, role: str) -> str:
    """The password of a process, the same at every start."""
    return hmac.new(bytes.fromhex(secret), role.encode(), hashlib.sha256).hexdigest()


def users_file(store: StoreKind, secret: str) -> str:
    """One line a user; passwords stand there as hashes only."""
    inner = inner_commands(store)
    lines = [
        f"user {role} on #{_hash(password_of(secret, role))} {user.rules(inner)}"
        for role, user in USERS[store].items()
    ]
    return "\n".join([_EVERYTHING, *lines, ""])


def _hash(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()

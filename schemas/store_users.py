"""Who may do what in the stores: a user for each process, with the commands that it sends and what they touch. Pure.

What the functions do inside is done in the caller's name, so the commands of the functions are allowed beside these
(``schemas/runtime/store_commands.py`` reads them off the functions). A user bounds what a leaked password is good
for: no other keys, no configuration, no emptying of the store. It does not check what a process may decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

StoreKind = Literal["ledger", "bus"]

CONNECTING: Final = (
    *("ping", "time", "info", "role", "select", "hello", "asking", "command", "cluster|slots"),
    *("client|setname", "function|load", "function|list", "function|delete", "multi", "exec"),
)
"""What every process sends on a new connection, and to see that it stands."""
_SHARDS: Final = "~{[0-9]*}|*"
_MARKS: Final = "~{d:*}"
_APPLIED: Final = "~{cfg}|applied"
_BATCHES: Final = "~{cfg}|batch|*"
_CONFIG_READ: Final = "%R~{cfg}|*"
_COUNTED: Final = "~{counted}*"
_FRAMES: Final = "~rep:*"
_BODIES: Final = "~body:*"


@dataclass(frozen=True, slots=True)
class StoreUser:
    """A process in a store."""

    commands: tuple[str, ...]
    keys: tuple[str, ...]
    channels: tuple[str, ...] = ()

    def rules(self, inner: Iterable[str]) -> str:
        """Its rules as the stores write them, allowing also the commands of the functions."""
        commands = sorted({*CONNECTING, "fcall", *self.commands, *inner})
        channels = [f"&{channel}" for channel in self.channels]
        allowed = [f"+{command}" for command in commands]
        return " ".join(["resetkeys", "resetchannels", "-@all", *self.keys, *channels, *allowed])


LEDGER_USERS: Final[Mapping[str, StoreUser]] = {
    "admin": StoreUser(
        ("eval", "get", "set", "del", "hget", "hgetall", "hmget", "scan", "zcard", "zrange"),
        (_SHARDS, "~{cfg}|*", "~{dlq}|*", "%R" + _MARKS),
    ),
    "ingress": StoreUser(
        ("eval", "get", "hgetall", "hscan", "zcount"),
        (_SHARDS, _APPLIED, _CONFIG_READ),
    ),
    # Whose lease a batch is, it alone says.
    "batches": StoreUser(
        ("del", "eval", "get", "hgetall", "set"),
        (_SHARDS, _APPLIED, _BATCHES, _CONFIG_READ),
    ),
    "limiter_worker": StoreUser(("eval", "hmget"), (_SHARDS, _MARKS, _APPLIED, _CONFIG_READ)),
    "dispatcher": StoreUser(
        ("eval", "hdel", "hmget", "zscan"),
        (_SHARDS, _MARKS, _APPLIED, "~{cfg}|health", _CONFIG_READ),
    ),
    "accounting": StoreUser(
        (
            "copy",
            "eval",
            "exists",
            "hget",
            "hgetall",
            "hmget",
            "pexpiretime",
            "scan",
            "zrange",
            "zscore",
        ),
        # The last three are where a version of another layout of keys had what a rebuild takes over.
        (_SHARDS, _MARKS, _APPLIED, _CONFIG_READ, "%R~meta", "%R~fin", "%R~{*}:*"),
    ),
}
"""The ledger's users by process."""

BUS_USERS: Final[Mapping[str, StoreUser]] = {
    "ingress": StoreUser(
        ("publish", "set", "subscribe", "unlink", "xrange", "xrevrange"),
        (_FRAMES, _BODIES, _COUNTED),
        ("ing:*", "dsp:*"),
    ),
    "batches": StoreUser(
        ("publish", "set", "subscribe", "unlink", "xrange", "xrevrange"),
        (_FRAMES, _BODIES, _COUNTED),
        ("ing:*", "dsp:*"),
    ),
    "limiter_worker": StoreUser(("unlink",), (_FRAMES, _BODIES, _COUNTED), ("ing:*",)),
    "dispatcher": StoreUser(
        ("get", "pexpire", "subscribe", "unlink", "xrange", "xrevrange", "xtrim"),
        (_FRAMES, _BODIES, _COUNTED),
        ("ing:*", "dsp:*"),
    ),
    "accounting": StoreUser((), (_FRAMES, _COUNTED), ("ing:*",)),
}
"""The users of the bus by process; the control plane is none."""

USERS: Final[Mapping[StoreKind, Mapping[str, StoreUser]]] = {
    "ledger": LEDGER_USERS,
    "bus": BUS_USERS,
}

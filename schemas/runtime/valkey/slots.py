"""Which slot of a cluster a command goes to. Pure."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Final

SLOTS: Final = 16_384
_SCRIPTS: Final = frozenset({"FCALL", "FCALL_RO", "EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO"})
"""Commands whose keys stand behind their number: name, script, number of keys, keys."""
_KEYLESS: Final = frozenset(
    {"PING", "TIME", "INFO", "PUBLISH", "FUNCTION", "SCRIPT", "CLUSTER", "CONFIG", "ROLE", "DBSIZE"}
)
"""Commands that any server answers."""


def key_of(command: Sequence[str | bytes | int]) -> str | bytes | int | None:
    """The key that decides where a command goes; ``None`` when any server will do."""
    name = command[0]
    if name in _SCRIPTS:
        return command[3] if int(command[2]) else None
    return None if name in _KEYLESS or len(command) == 1 else command[1]


def slot_of(key: str | bytes | int) -> int:
    """The slot of a key: of what stands between its first braces, if anything does."""
    name = key if isinstance(key, bytes) else str(key).encode()
    start = name.find(b"{") + 1
    if start and (end := name.find(b"}", start)) > start:
        name = name[start:end]
    return crc_hqx(name, 0) % SLOTS

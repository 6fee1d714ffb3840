"""Which commands the functions of the stores use inside, read off their sources."""

from __future__ import annotations

import re
from importlib import resources
from typing import Final

from schemas.runtime.ledger.script import library
from schemas.store_users import StoreKind

_CALL: Final = re.compile(r"redis\.p?call\(\s*'([A-Z]+)'")


def inner_commands(store: StoreKind) -> frozenset[str]:
    """Their names in lower case."""
    bus = resources.files("schemas.runtime.valkey").joinpath("bus.lua")
    source = library() if store == "ledger" else bus.read_text("utf-8")
    return frozenset(name.lower() for name in _CALL.findall(source))

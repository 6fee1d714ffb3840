"""Joins the Lua files, and the times they share with Python, into the one function library of the ledger.

Each file sees the local functions of those before it, so the order below matters. A change of
what a function means needs new function names beside the old, and any change a higher ``REVISION``.
"""

from __future__ import annotations

from dataclasses import asdict
from importlib import resources
from typing import Final

from schemas.times import FULL, LedgerTimes

REVISION: Final = 13
"""Grows with every change of the functions: a process replaces older ones, never newer ones."""

FAMILY: Final = "tallygate_ledger_"
"""How the name of every revision begins."""

FILES = (
    "library",
    "rates",
    "balances",
    "attempts",
    "claim",
    "jobs",
    "admit",
    "start",
    "restored",
    "next_attempt",
    "renew",
    "finish",
    "cancel",
    "reap",
    "tables",
    "book",
    "snapshot",
    "examine",
    "init",
    "rebuild",
)

_CLOSED = frozenset(
    {"admit", "next_attempt", "renew", "finish", "cancel", "reap", "snapshot", "examine"}
)
"""Files that no later one uses anything of: blocks of their own, because Lua allows a chunk 200 locals."""


def library(times: LedgerTimes = FULL.ledger, revision: int = REVISION) -> str:
    """The source that FUNCTION LOAD takes; its first line names the library and its revision."""
    folder = resources.files(__package__).joinpath("lua")
    files = (_block(name, folder.joinpath(f"{name}.lua").read_text("utf-8")) for name in FILES)
    return "\n".join((f"#!lua name={FAMILY}{revision}", *_constants(times), *files))


def _block(name: str, text: str) -> str:
    return f"do\n{text}\nend" if name in _CLOSED else text


def _constants(times: LedgerTimes) -> list[str]:
    return [f"local {name.upper()} = {ms}" for name, ms in asdict(times).items()]


def revision_of(name: str) -> int:
    """The revision in the name of a library; 0 for one that has none."""
    number = name.removeprefix(FAMILY)
    return int(number) if number.isdecimal() else 0

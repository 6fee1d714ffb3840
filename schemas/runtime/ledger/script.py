"""Joins the Lua files, and the times they share with Python, into the one function library of the ledger.

Each file sees the local functions of those before it, so the order below matters. A change of
what a function means needs a new library name and new function names beside the old.
"""

from __future__ import annotations

from dataclasses import asdict
from importlib import resources

from schemas.times import FULL, LedgerTimes

LIBRARY = "tallygate_ledger_v1"
"""The name on the first line of the source."""

FILES = (
    "library",
    "rates",
    "balances",
    "attempts",
    "admit",
    "start",
    "next_attempt",
    "renew",
    "finish",
    "cancel",
    "claim",
    "jobs",
    "reap",
    "book",
    "snapshot",
    "init",
)


def library(times: LedgerTimes = FULL.ledger) -> str:
    """The source that FUNCTION LOAD takes; its first line names the library."""
    folder = resources.files(__package__).joinpath("lua")
    files = (folder.joinpath(f"{name}.lua").read_text("utf-8") for name in FILES)
    return "\n".join((f"#!lua name={LIBRARY}", *_constants(times), *files))


def _constants(times: LedgerTimes) -> list[str]:
    return [f"local {name.upper()} = {ms}" for name, ms in asdict(times).items()]

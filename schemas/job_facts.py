"""The facts of a job that are kept beside it: what the ledger and the outcome say of it, made by ingress. Pure."""

from __future__ import annotations

import msgspec

__all__ = ["JobFacts", "read_facts"]


class JobFacts(msgspec.Struct, frozen=True, array_like=True):
    """What the ledger keeps of a job; everything else is told from what became of it."""

    model: str
    deadline_ms: int
    owner: str | None = None
    """Whose own job it is; ``None`` for one of a program, which all programs of its organization share."""
    webhook_url: str | None = None
    """Where its end is told, by its client's wish; ``None`` where its organization is told."""
    events_of: str | None = None
    """The operation whose events tell it while it runs, and can be read again; ``None`` of one without events."""

    def encoded(self) -> str:
        """As kept in the ledger and in the log: what is not stated at its end is left out."""
        facts = list(msgspec.structs.astuple(self))
        while facts[-1] is None:
            facts.pop()
        return msgspec.json.encode(facts).decode()

    def is_open_to(self, owner: str | None) -> bool:
        """Whether a caller may see it: programs see all of their organization, users only their own."""
        return owner is None or owner == self.owner


def read_facts(info: str) -> JobFacts | None:
    """The facts in a text of the ledger; ``None`` when they are none of ours."""
    try:
        return msgspec.json.decode(info, type=JobFacts)
    except msgspec.DecodeError:
        return None

"""The life of a shard in the ledger model: who holds it, which log it is the fold of, whether it decides. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.ledger import answers, shard_documents

__all__ = ["Life"]


@dataclass
class Life:
    """As much of `meta` as decides whether the shard is open."""

    epoch: int
    run_id: str = ""
    """Of the process that holds it; empty until one was met."""
    ready: bool = True
    why: str = ""
    cluster_id: str | None = None
    birth_id: str | None = None
    booked: int = -1

    def is_open(self, announced: int = 0) -> bool:
        """Whether it decides for a caller that knows of this epoch."""
        return self.ready and announced <= self.epoch

    def meet(self, run_id: str) -> answers.Meta:
        """See tg1_meet; the process that is met first is the one that began it."""
        if self.ready and run_id != (self.run_id or run_id):
            self._close("restarted")
        self.run_id = self.run_id or run_id
        return answers.Meta(epoch=self.epoch, ready=self.ready, why=self.why)

    def identify(self, log: shard_documents.Identify) -> answers.Meta:
        """See tg1_identify."""
        if differs := self._difference(log):
            self._close(differs)
        else:
            self.cluster_id = self.cluster_id or log.cluster_id
            self.birth_id = self.birth_id or log.birth_id
        return answers.Meta(epoch=self.epoch, ready=self.ready, why=self.why, booked=self.booked)

    def _difference(self, log: shard_documents.Identify) -> str | None:
        ids = ((self.cluster_id, log.cluster_id), (self.birth_id, log.birth_id))
        if any(known and here and known != here for known, here in ids):
            return "another log"
        booked = min(-1 if log.booked is None else log.booked, self.booked)
        if log.end is not None and booked >= log.end:
            return "log lost its end"
        is_behind = self.booked >= 0 and self.booked + 1 < (log.committed or 0)
        return "behind" if is_behind else None

    def _close(self, why: str) -> None:
        self.ready, self.why = False, why

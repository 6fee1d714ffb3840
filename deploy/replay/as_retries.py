"""The one effect of a replay: dead letters of a range are given another try, each once, through the control plane.

It asks what ``tallygate dlq retry`` asks, so each retry is claimed in the ledger and told to auditors, and one that is repeated
after a kill does nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Protocol

from deploy.replay.checkpoint import Checkpoint
from deploy.replay.pace import Pace, read_plan
from deploy.replay.plan import Plan, Source
from deploy.replay.problem import ReplayProblem
from schemas.topics import TOPICS, dead_letters_of

__all__ = ["EFFECT", "DeadLetters", "RetryReplay", "check_letters"]

EFFECT: Final = "retry-dead-letters"
_COMMIT_EVERY: Final = 50
_LISTED_MAX: Final = 1_000
_LETTERS: Final = tuple(dead_letters_of(topic.name) for topic in TOPICS if topic.has_dead_letters)


class DeadLetters(Protocol):
    """The control plane, as far as it knows dead letters."""

    def is_retried(self, letter: str) -> bool:
        """Whether the letter was given another try before."""

    def retry(self, letter: str) -> None:
        """Give it one. Raises ``ReplayProblem`` when it is refused."""


def check_letters(topic: str) -> None:
    """Raises ``ReplayProblem`` for a topic that has none."""
    if topic not in _LETTERS:
        raise ReplayProblem(
            f"{topic} has no dead letters",
            f"{EFFECT} retries what stands in a topic of them",
            f"name one with --topic: {', '.join(_LETTERS)}",
            is_usage=True,
        )


@dataclass(frozen=True, slots=True)
class RetryReplay:
    """One such replay."""

    source: Source
    plan: Plan
    letters: DeadLetters
    checkpoint: Checkpoint
    pace: Pace

    async def run(self) -> dict[str, Any]:
        """Retry each letter that was not before. Raises ``KafkaError`` and ``Transient``."""
        places, since, failed = self.checkpoint.places(), 0, list[dict[str, str]]()
        async for number, piece in read_plan(
            self.source.log, self.plan, self.checkpoint, self.pace
        ):
            for record in piece:
                letter = f"{self.plan.topic}-{number}@{record.offset}"
                why = await asyncio.to_thread(self._one, letter)
                if why is not None and len(failed) < _LISTED_MAX:
                    failed.append({"id": letter, "why": why})
                places[number], since = record.offset + 1, since + 1
                if since >= _COMMIT_EVERY:
                    self.checkpoint.commit(places)
                    since = 0
        self.checkpoint.commit(places)
        counts = self.checkpoint.counts()
        return {
            "effect": EFFECT,
            "difference": 0,
            "retried": counts.get("retried", 0),
            "retried_before": counts.get("retried before", 0),
            "refused": counts.get("refused", 0),
            "refusals": failed,
            "totals": [],
        }

    def _one(self, letter: str) -> str | None:
        """Why the letter was not retried, if it was refused."""
        self.checkpoint.count("selected")
        if self.letters.is_retried(letter):
            self.checkpoint.count("retried before")
            return None
        try:
            self.letters.retry(letter)
        except ReplayProblem as problem:
            self.checkpoint.count("refused")
            return problem.why
        self.checkpoint.count("retried")
        return None

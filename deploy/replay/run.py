"""Runs replays and plans of them, and says what they came to. Nothing live is written unless an effect is named."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka.errors import KafkaError

from deploy.replay.as_accounting import AccountingReplay, check_outcomes
from deploy.replay.as_copy import CopyReplay, check_target
from deploy.replay.as_limiter import LimiterReplay, check_requests
from deploy.replay.as_retries import DeadLetters, RetryReplay, check_letters
from deploy.replay.checkpoint import Checkpoint, discard_checkpoint, open_checkpoint
from deploy.replay.pace import Pace
from deploy.replay.plan import Plan, Source, counted, open_source, planned
from deploy.replay.problem import ReplayProblem
from deploy.replay.ranges import Range, Stretch
from deploy.replay.selection import Selection
from schemas.failures import Failure
from schemas.ids import UUID7_RANDOM_BYTES, uuid7
from schemas.runtime.kafka.address import read_kafka_address
from schemas.runtime.process.clock import Clock, random_bytes
from schemas.runtime.valkey.address import read_address

__all__ = ["Asked", "checkpoint_of", "plan_replay", "run_replay"]

_LOW_PRIORITY: Final = 10
"""A tenth of what others get while they want the processor: nobody waits for a replay."""
_NAMED_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of a replay."""

    brokers: str
    topic: str
    wanted: Range
    selection: Selection
    said: str
    """The same in words, by which the next run knows its checkpoint."""
    role: str = "plan"
    """``accounting``, ``limiter``, ``copy``, or the effect that is named."""
    to: str | None = None
    ledger_url: str = ""
    per_s: float | None = None
    letters: DeadLetters | None = None


def checkpoint_of(folder: Path, said: str) -> Path:
    """Where the checkpoint of a replay stands, unless somebody says another place."""
    return folder / "replays" / f"{hashlib.sha256(said.encode()).hexdigest()[:16]}.sqlite3"


async def plan_replay(asked: Asked, watch: Callable[[Pace], None]) -> dict[str, Any]:
    """What would be read; with filters also how many records they choose, which reads them all."""

    async def work() -> dict[str, Any]:
        async with open_source(asked.brokers, asked.topic) as source:
            plan = await planned(source, asked.wanted, asked.selection)
            document = _plan_document(plan)
            if not asked.selection.is_all:
                pace = Pace(plan.records)
                watch(pace)
                found = await counted(source, plan, pace.note)
                document["selected"] = found["wanted"]
                document["undecodable"] = found["undecodable"]
            return document

    return await _told(asked, work)


async def run_replay(
    asked: Asked, file: Path, watch: Callable[[Pace], None], tell: Callable[[str], None]
) -> dict[str, Any]:
    """What the replay came to. Its checkpoint is removed once it has ended. Raises ``ReplayProblem``."""
    _check(asked)

    async def work() -> dict[str, Any]:
        async with open_source(asked.brokers, asked.topic) as source:
            with open_checkpoint(file, asked.said) as checkpoint:
                try:
                    plan = await _plan(source, asked, checkpoint, tell)
                except ReplayProblem:
                    discard_checkpoint(file)  # Nothing was begun.
                    raise
                pace = Pace(plan.records, asked.per_s)
                watch(pace)
                found = await _run(source, plan, asked, checkpoint, pace)
                document = _document(asked, checkpoint, pace) | _plan_document(plan) | found
            discard_checkpoint(file)
            return document

    return await _told(asked, work)


def _check(asked: Asked) -> None:
    """Raises ``ReplayProblem`` for what no log could make sense of."""
    if asked.ledger_url:
        try:
            read_address(asked.ledger_url)
        except ValueError as error:
            fix = "write redis://host:port, as accounting is given it"
            raise ReplayProblem("--ledger is no store", str(error), fix, is_usage=True) from error
    match asked.role:
        case "copy":
            check_target(asked.topic, asked.to)
        case "accounting":
            check_outcomes(asked.topic)
        case "limiter":
            check_requests(asked.topic)
        case _:
            check_letters(asked.topic)


async def _plan(
    source: Source, asked: Asked, checkpoint: Checkpoint, tell: Callable[[str], None]
) -> Plan:
    """The plan of the run that is gone on with, or a new one: a relative time means what it meant when it was said."""
    known = checkpoint.fact("stretches")
    if known is not None:
        stretches = msgspec.json.decode(known, type=tuple[Stretch, ...])
        done = sum(checkpoint.places().values()) - sum(
            s.begin for s in stretches if s.partition in checkpoint.places()
        )
        tell(f"goes on with {checkpoint.fact('replay_id')} behind {done} records")
        return Plan(asked.topic, stretches, asked.selection)
    plan = await planned(source, asked.wanted, asked.selection)
    if plan.records == 0:
        notes = "; ".join(f"partition {s.partition}: {n}" for s in plan.stretches for n in s.notes)
        raise ReplayProblem(
            f"there is nothing to replay in {asked.topic}",
            notes or "no record was appended in that range",
            "ask for another range; tallygate replay plan shows what there is",
        )
    checkpoint.note("stretches", msgspec.json.encode(plan.stretches).decode())
    checkpoint.note("replay_id", uuid7(Clock().now_ms(), random_bytes(UUID7_RANDOM_BYTES)))
    checkpoint.commit({})
    return plan


async def _run(
    source: Source, plan: Plan, asked: Asked, checkpoint: Checkpoint, pace: Pace
) -> dict[str, Any]:
    if asked.role == "copy":
        target, replay_id = check_target(asked.topic, asked.to), checkpoint.fact("replay_id") or ""
        copy = CopyReplay(source, plan, asked.brokers, target, replay_id, checkpoint, pace)
        return await copy.run()
    if asked.role == "limiter":
        limiter = LimiterReplay(source, plan, asked.brokers, asked.ledger_url, checkpoint, pace)
        return await limiter.run()
    if asked.letters is not None:
        return await RetryReplay(source, plan, asked.letters, checkpoint, pace).run()
    replay = AccountingReplay(source, plan, asked.brokers, asked.ledger_url, checkpoint, pace)
    return await replay.run()


def _document(asked: Asked, checkpoint: Checkpoint, pace: Pace) -> dict[str, Any]:
    counts = checkpoint.counts()
    named = checkpoint.undecodable(_NAMED_MAX)
    return {
        "replay_id": checkpoint.fact("replay_id"),
        "as": asked.role,
        "seconds": round(pace.seconds, 3),
        "read": counts.get("read", 0),
        "selected": counts.get("selected", 0),
        "booked": counts.get("booked", 0),
        "duplicates": counts.get("duplicates", 0),
        "gone": counts.get("gone", 0),
        "undecodable": counts.get("undecodable", 0),
        "undecodable_named": [
            {"id": f"{asked.topic}-{partition}@{offset}", "why": why}
            for partition, offset, why in named
        ],
    }


def _plan_document(plan: Plan) -> dict[str, Any]:
    return {
        "topic": plan.topic,
        "filters": str(plan.selection),
        "records": plan.records,
        "stretches": [msgspec.to_builtins(each) for each in plan.stretches],
    }


async def _told(asked: Asked, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """The result, with what is away told as a problem."""
    os.nice(_LOW_PRIORITY)
    try:
        return await work()
    except (KafkaError, Failure, OSError, TimeoutError) as error:
        raise ReplayProblem(
            f"the replay of {asked.topic} at {read_kafka_address(asked.brokers).plain} was broken off",
            f"{type(error).__name__}: {error}",
            "run the same command again once that is mended: it goes on where it was",
        ) from error

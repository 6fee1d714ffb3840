"""``tallygate topics``: create the topics, list them, follow one."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deploy.cli.command import Call, Commands, add_command, add_group, positive
from deploy.cli.output import CommandFailed, Exit, table

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from schemas.runtime.kafka.topic_admin import TopicState

_COLUMNS = ("name", "partitions")
_PARTITIONS = 12
_ADMIN_DEADLINE_S = 40.0


def register(commands: Commands) -> None:
    """Add the commands."""
    topics = add_group(commands, "topics", "Kafka topics")
    apply_parser = add_command(topics, "apply", "create what is missing, correct settings", apply)
    apply_parser.add_argument("--partitions", type=positive, default=_PARTITIONS)
    apply_parser.add_argument("--replicas", type=positive, default=1)
    list_parser = add_command(topics, "list", "list the topics as the broker has them", show)
    tail_parser = add_command(topics, "tail", "print decoded records as JSON lines", follow)
    tail_parser.add_argument("topic")
    tail_parser.add_argument("--from-beginning", action="store_true")
    tail_parser.add_argument("--max", type=positive, metavar="N", help="stop after N records")
    for parser in (apply_parser, list_parser, tail_parser):
        parser.add_argument("--brokers", help="host:port,host:port")


def apply(call: Call) -> int:
    from schemas.runtime.kafka.topic_admin import PartitionCountChanged, apply_topics  # noqa: PLC0415

    options = call.options
    brokers = _brokers(call)
    try:
        states = _run(brokers, apply_topics(brokers, options.partitions, options.replicas))
    except PartitionCountChanged as error:
        raise CommandFailed(
            "the topics were not changed",
            str(error),
            "keep the count: a key's partition follows from it (--partitions)",
        ) from error
    _show_states(call, states, "created", "changed")
    return Exit.OK


def show(call: Call) -> int:
    states = topic_states(call)
    _show_states(call, states)
    return Exit.OK if all(state.partitions for state in states) else Exit.PARTIAL


def topic_states(call: Call) -> list[TopicState]:
    """The topics as the broker has them."""
    from schemas.runtime.kafka.topic_admin import list_topics  # noqa: PLC0415

    brokers = _brokers(call)
    states: list[TopicState] = _run(brokers, list_topics(brokers))
    return states


def follow(call: Call) -> int:
    """Runs until it printed ``--max`` records or is interrupted."""
    from deploy.cli.tail import tail  # noqa: PLC0415

    options, brokers = call.options, _brokers(call)
    malformed = _run(
        brokers,
        tail(brokers, options.topic, options.max, call.output.line, oldest=options.from_beginning),
        deadline_s=None,
    )
    return Exit.PARTIAL if malformed else Exit.OK


def _show_states(call: Call, states: list[TopicState], *more: str) -> None:
    columns = (*_COLUMNS, *more)
    rows = [{name: asdict(state)[name] for name in columns} for state in states]
    call.output.result({"topics": rows}, table(columns, rows))


def _run(brokers: str, work: Awaitable[Any], deadline_s: float | None = _ADMIN_DEADLINE_S) -> Any:
    from aiokafka.errors import KafkaError  # noqa: PLC0415

    async def bounded() -> Any:
        async with asyncio.timeout(deadline_s):
            return await work

    try:
        return asyncio.run(bounded())
    except (KafkaError, OSError, TimeoutError) as error:
        raise CommandFailed(
            f"Kafka at {brokers} did not do it",
            f"{type(error).__name__}: {error}",
            "check the address; `tallygate up` starts a broker of its own",
        ) from error


def _brokers(call: Call) -> str:
    """What the user says, else what the gateway itself uses."""
    from deploy.cli.address import Addresses  # noqa: PLC0415

    found = call.options.brokers or Addresses().kafka_brokers
    return found or str(call.admin().get("/status")["kafka_brokers"])

"""``tallygate topics``: create the topics, list them, follow one."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.brokers import brokers_of
from deploy.cli.command import Call, command, noun
from deploy.cli.options import Brokers, positive
from deploy.cli.output import CommandFailed, Exit
from deploy.cli.table import table
from schemas.runtime.process.secret_files import read_value

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from schemas.config_signing import Signer
    from schemas.runtime.kafka.topic_admin import TopicState

_COLUMNS = ("name", "partitions")
_PARTITIONS = 12
_ADMIN_DEADLINE_S = 40.0
SIGNING_KEY = "TALLYGATE_CONFIG_SIGNING_KEY"

APP = noun("topics", "Kafka topics.")


@command(APP, "apply", "tallygate topics apply --partitions 24 --replicas 3")
def apply(
    call: Call,
    *,
    partitions: Annotated[
        int, typer.Option(parser=positive, metavar="N", help="of each topic; never changed later")
    ] = _PARTITIONS,
    replicas: Annotated[
        int, typer.Option(parser=positive, metavar="N", help="of each partition")
    ] = 1,
    brokers: Brokers = None,
) -> int:
    """Create what is missing, correct settings."""
    from schemas.runtime.kafka.topic_admin import PartitionCountChanged, apply_topics  # noqa: PLC0415

    address = brokers_of(call, brokers)
    try:
        with call.output.progress("asking Kafka"):
            states = run_bounded(address, apply_topics(address, partitions, replicas, _signer()))
    except PartitionCountChanged as error:
        raise CommandFailed(
            "the topics were not changed",
            str(error),
            "keep the count: a key's partition follows from it (--partitions)",
        ) from error
    _show_states(call, states, "created", "changed")
    return Exit.OK


def _signer() -> Signer | None:
    """Whoever signs that this log is a new one; the key never stands on a command line."""
    from schemas.config_signing import read_signer  # noqa: PLC0415 - help needs no keys

    try:
        key = read_value(os.environ, SIGNING_KEY)
        return read_signer("admin", key) if key else None
    except ValueError as error:
        what = f"{SIGNING_KEY} cannot be used"
        raise CommandFailed(
            what, str(error), "tallygate config keys makes one", Exit.USAGE
        ) from error


@command(APP, "list", "tallygate topics list", "tallygate topics list --brokers 127.0.0.1:9092")
def show(call: Call, *, brokers: Brokers = None) -> int:
    """List the topics as the broker has them.

    Exit code 3 when one is missing.
    """
    with call.output.progress("asking Kafka"):
        states = topic_states(call, brokers)
    _show_states(call, states)
    return Exit.OK if all(state.partitions for state in states) else Exit.PARTIAL


def topic_states(call: Call, brokers: str | None) -> list[TopicState]:
    """The topics as the broker has them."""
    from schemas.runtime.kafka.topic_admin import list_topics  # noqa: PLC0415

    address = brokers_of(call, brokers)
    states: list[TopicState] = run_bounded(address, list_topics(address))
    return states


@command(
    APP,
    "tail",
    "tallygate topics tail usage.records.v1",
    "tallygate topics tail audit.router --from-beginning --max 10",
)
def follow(
    call: Call,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="as in the list")],
    *,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="the oldest first, not from now on")
    ] = False,
    stop_after: Annotated[
        int | None, typer.Option("--max", parser=positive, metavar="N", help="stop after N records")
    ] = None,
    brokers: Brokers = None,
) -> int:
    """Print decoded records as JSON lines.

    It ends after N records, else when it is interrupted. Exit code 3 when one was malformed.
    """
    from deploy.cli.tail import tail  # noqa: PLC0415

    address = brokers_of(call, brokers)
    work = tail(address, topic, stop_after, call.output.line, oldest=from_beginning)
    malformed = run_bounded(address, work, deadline_s=None)
    return Exit.PARTIAL if malformed else Exit.OK


def _show_states(call: Call, states: list[TopicState], *more: str) -> None:
    columns = (*_COLUMNS, *more)
    rows = [{name: asdict(state)[name] for name in columns} for state in states]
    call.output.result({"topics": rows}, table(columns, rows))


def run_bounded(
    brokers: str, work: Awaitable[Any], deadline_s: float | None = _ADMIN_DEADLINE_S
) -> Any:
    """What the work comes to. Raises ``CommandFailed`` where Kafka did not do it in time."""
    import asyncio  # noqa: PLC0415 - help waits for no library

    from aiokafka.errors import KafkaError  # noqa: PLC0415

    from schemas.runtime.kafka.address import read_kafka_address  # noqa: PLC0415

    async def bounded() -> Any:
        async with asyncio.timeout(deadline_s):
            return await work

    try:
        return asyncio.run(bounded())
    except (KafkaError, OSError, TimeoutError) as error:
        raise CommandFailed(
            f"Kafka at {read_kafka_address(brokers).plain} did not do it",
            f"{type(error).__name__}: {error}",
            "check the address; `tallygate up` starts a broker of its own",
        ) from error

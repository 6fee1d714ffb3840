"""A Faust app with the settings that were measured to be safe.

Started from our own entry point, never from Faust's command line. Web server, tables, leader topics and
Faust's own acknowledgement are off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import faust
from faust import streams
from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.consume.ack_window import AckWindow, Partition
from schemas.runtime.kafka.consume.delivery import DirectConsumer, DirectTransport
from schemas.runtime.kafka.consume.processed import ProcessedMarks

_NEVER = 2**31 - 1
_FETCH_BYTES = 1024 * 1024
"""Of one partition, fetched ahead; a larger record comes alone. What is taken is bounded by the flow of each
inbox, so Faust's own queue never is what holds a partition back."""


class WorkerApp(faust.App):
    """One consumer group member. It waits for nothing at a rebalance or at its stop: what is under way
    is known to the windows, and the worker drains it."""

    windows: dict[str, AckWindow]
    """Topic to what is finished of it."""
    held: dict[Partition, str]
    """Partitions that stand still until the group changes or their cause is gone, with the cause."""
    marks: ProcessedMarks
    fetch_pause_s: float
    """Between fetches: see ``FetchSessions``."""

    def on_init_dependencies(self) -> Iterable[Any]:
        """Faust's own, without its monitor, which nobody reads and which looks at every event."""
        services = super().on_init_dependencies()
        self.sensors.remove(self.monitor)
        return services

    @property
    def direct_consumer(self) -> DirectConsumer:
        """The consumer, by what it really is."""
        consumer: Any = self.consumer
        return cast("DirectConsumer", consumer)

    def _new_transport(self) -> Any:
        return DirectTransport(self.conf.broker_consumer, self)


def create_faust_app(
    *,
    group: str,
    brokers: str,
    instance_id: str,
    session_timeout_s: float,
    data_dir: Path,
    marks: ProcessedMarks,
    fetch_pause_s: float = 0.0,
) -> WorkerApp:
    """The app of one worker process.

    ``instance_id`` is the replica's stable name: a worker that dies and returns within the session
    timeout gets its partitions back without a rebalance.
    """
    if getattr(streams, "_CStreamIterator", None) is None:
        raise RuntimeError(
            "Faust's Cython streams are missing; the Python ones acknowledge too much"
        )
    options = client_options(brokers)
    data_dir.mkdir(parents=True, exist_ok=True)
    app = WorkerApp(
        group,
        broker=[f"kafka://{server}" for server in options["bootstrap_servers"]],
        broker_credentials=_credentials(options),
        store="memory://",
        datadir=str(data_dir / "faust"),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        broker_commit_interval=0.5,
        broker_commit_every=_NEVER,
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=1.0,
        broker_rebalance_timeout=15.0,
        broker_request_timeout=30.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance_id,
        consumer_max_fetch_size=_FETCH_BYTES,
        stream_wait_empty=False,
        stream_buffer_maxsize=_NEVER,
        loghandlers=[],
    )
    app.windows, app.held, app.marks = {}, {}, marks
    app.fetch_pause_s = fetch_pause_s
    return app


def _credentials(options: Mapping[str, Any]) -> CredentialsT | None:
    """The options of a client in Faust's words."""
    tls = options.get("ssl_context")
    if "sasl_mechanism" in options:
        return SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=tls,
            mechanism=options["sasl_mechanism"],
        )
    return None if tls is None else SSLCredentials(tls)

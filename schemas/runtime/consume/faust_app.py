"""A Faust app with the settings that were measured to be safe.

Started from our own entry point, never from Faust's command line. Web server, tables, leader topics and
Faust's own acknowledgement are off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faust
from faust import streams

from schemas.runtime.consume.delivery import DirectTransport

_NEVER = 2**31 - 1


class WorkerApp(faust.App):
    """One consumer group member. ``drain_on_stop`` waits for unfinished events at shutdown only,
    so a long call never stalls a rebalance."""

    def _new_transport(self) -> Any:
        return DirectTransport(self.conf.broker_consumer, self)

    async def on_stop(self) -> None:
        """Let events under way finish before their agents are cancelled."""
        self.conf.stream_wait_empty = True
        await super().on_stop()


def create_faust_app(
    *,
    group: str,
    brokers: str,
    instance_id: str,
    session_timeout_s: float,
    data_dir: Path,
    long_handlers: bool,
) -> WorkerApp:
    """The app of one worker process.

    ``instance_id`` is the replica's stable name: a worker that dies and returns within the session
    timeout gets its partitions back without a rebalance.
    """
    if getattr(streams, "_CStreamIterator", None) is None:
        raise RuntimeError(
            "Faust's Cython streams are missing; the Python ones acknowledge too much"
        )
    data_dir.mkdir(parents=True, exist_ok=True)
    return WorkerApp(
        group,
        broker=[f"kafka://{broker}" for broker in brokers.split(",")],
        store="memory://",
        datadir=str(data_dir / "faust"),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        broker_commit_interval=0.5,
        broker_commit_every=_NEVER,
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=15.0,
        broker_request_timeout=30.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance_id,
        consumer_max_fetch_size=8 * 1024 * 1024,
        stream_wait_empty=not long_handlers,
        stream_buffer_maxsize=4096,
        loghandlers=[],
    )

"""What a worker's Faust app is made of, without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from schemas.runtime.kafka.consume.faust_app import WorkerApp, create_faust_app
from schemas.runtime.kafka.consume.fetch_sessions import FetchSessions


def _app(data_dir: Path, fetch_pause_s: float = 0.0) -> WorkerApp:
    return create_faust_app(
        group="member",
        brokers="127.0.0.1:9",
        instance_id="member-0",
        session_timeout_s=10.0,
        data_dir=data_dir,
        marks=MagicMock(),
        fetch_pause_s=fetch_pause_s,
    )


async def test_its_consumer_fetches_in_sessions_with_the_pause_of_its_worker(
    tmp_path: Path,
) -> None:
    """Only its own client does; what else it sends goes through as it is."""
    app = _app(tmp_path, 0.05)
    member: Any = app.direct_consumer.member
    kafka = member._create_worker_consumer(app.transport)
    kafka._closed = True  # or its end complains that nobody stopped it
    sessions = kafka._client.send.__self__
    assert isinstance(sessions, FetchSessions)
    assert sessions._pause_s == 0.05


async def test_no_sensor_looks_at_its_events(tmp_path: Path) -> None:
    """Faust's monitor has no reader here."""
    app = _app(tmp_path)
    list(app.on_init_dependencies())
    assert not list(app.sensors)

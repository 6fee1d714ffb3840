"""What the settings of a process say of its tracing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from schemas.runtime.process.clock import Clock
from schemas.runtime.process.settings import WorkerSettings, read_headers, redacted
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.traces import tracing_of
from tests.support.otlp_receiver import otlp_receiver
from tests.unit.runtime.test_tracing import opened


def settings(**told: Any) -> WorkerSettings:
    return WorkerSettings(
        kafka_brokers="a:1",
        ledger_url="redis://a:1",
        bus_url="redis://a:2",
        data_dir=Path("/nowhere"),
        instance_id="dispatcher-0",
        http_port=1,
        **told,
    )


def test_nothing_is_traced_where_no_receiver_is_named() -> None:
    """That is how it is unless somebody says otherwise."""
    assert tracing_of(settings(), "dispatcher", Clock(), Metrics()) is None


def test_a_process_that_traces_nothing_does_not_load_what_writes_spans() -> None:
    """It costs neither time at its start nor memory."""
    program = "import sys, dispatcher.app, ingress.app; print('schemas.runtime.process.otlp' in sys.modules)"
    ran = subprocess.run(  # noqa: PLW1510
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )

    assert ran.stdout == "False\n", ran.stderr


async def test_a_process_tells_who_it_is_and_calls_with_the_headers_it_was_given() -> None:
    """The name of the installation, its role, its instance."""
    with otlp_receiver() as receiver:
        told = settings(
            traces_endpoint=f"{receiver.url}/",
            traces_headers=SecretStr("authorization=Bearer%20x"),
            traces_sampler="always_on",
            service_name="api",
        )
        tracing = tracing_of(told, "dispatcher", Clock(), Metrics())
        assert tracing is not None
        opened(tracing.tracer).end()
        await tracing.exporter.stop()

    (span,) = receiver.spans
    assert (span.process, span.instance) == ("api-dispatcher", "dispatcher-0")
    assert receiver.headers[0]["authorization"] == "Bearer x"
    assert tracing.tracer.with_content is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("traces_endpoint", "collector:4318"),
        ("traces_endpoint", "ftp://collector:4318"),
        ("traces_ratio", 1.1),
        ("traces_ratio", -0.1),
        ("traces_followed_per_s", -1),
        ("traces_sampler", "often"),
        ("traces_headers", "no separator"),
        ("traces_headers", "a b=c"),
        ("traces_headers", "a=b%0d%0ac"),
    ],
)
def test_what_cannot_be_followed_is_refused_at_the_start(name: str, value: Any) -> None:
    """With the setting's name."""
    with pytest.raises(ValidationError, match=name):
        settings(**{name: value})


def test_headers_are_read_as_opentelemetry_writes_them() -> None:
    """Percent-encoded, with commas between them; an empty list is none."""
    assert read_headers("") == {}
    assert read_headers(" A=1 , b = x%3Dy=z,") == {"a": "1", "b": "x=y=z"}


def test_headers_are_secret_in_logs() -> None:
    """They hold the key of whoever keeps the traces."""
    assert redacted(settings(traces_headers=SecretStr("a=key")))["traces_headers"] == "***"

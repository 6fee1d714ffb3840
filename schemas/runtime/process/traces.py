"""The tracing of one process, as its settings ask for it; a process that traces nothing does not even load the exporter."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from schemas.runtime.process.clock import Clock
from schemas.runtime.process.settings import DataPlaneSettings
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.tracing import Tracer, Value
from schemas.sampling import sampler_of

if TYPE_CHECKING:
    from schemas.runtime.process.span_export import SpanExporter

__all__ = ["Tracing", "tracing_of"]


@dataclass(frozen=True, slots=True)
class Tracing:
    """Who records the spans of a process, and who exports them."""

    tracer: Tracer
    exporter: SpanExporter


def tracing_of(
    settings: DataPlaneSettings, role: str, clock: Clock, metrics: Metrics
) -> Tracing | None:
    """What the settings ask for; ``None`` where they name no receiver. Call it inside the running loop."""
    if settings.traces_url is None:
        return None
    from schemas.runtime.process.span_export import SpanExporter  # noqa: PLC0415 - nobody loads messages that nobody writes

    sampler = sampler_of(
        settings.traces_sampler, settings.traces_ratio, settings.traces_followed_per_s
    )
    tracer = Tracer(sampler, clock.now_ns, with_content=settings.traces_content)
    resource: dict[str, Value] = {
        "service.name": settings.name_in_logs(role),
        "service.version": version("tallygate"),
        "service.instance.id": settings.instance_id,
        "telemetry.sdk.name": "tallygate",
        "telemetry.sdk.language": "python",
    }
    exporter = SpanExporter(tracer, settings.traces_url, settings.traces_call_headers, resource)
    exporter.expose(metrics)
    return Tracing(tracer, exporter)

"""Entry point of the ingress process."""

from __future__ import annotations

import asyncio
import sys

from ingress.app import create_app
from ingress.settings import IngressSettings
from schemas.runtime.process.collector import calm_collector
from schemas.runtime.process.log_lines import configure_logging
from schemas.runtime.process.loop_counts import loop_factory
from schemas.runtime.process.settings import log_settings, read_settings


async def _run(settings: IngressSettings) -> int:
    return await create_app(settings).run()


def main() -> None:
    """Run ingress with the settings in the environment."""
    settings = read_settings(IngressSettings)
    configure_logging("ingress", settings.log_level)
    log_settings(settings)
    calm_collector()
    with asyncio.Runner(loop_factory=loop_factory(counting=settings.count_loop)) as runner:
        status = runner.run(_run(settings))
    sys.exit(status)


if __name__ == "__main__":
    main()

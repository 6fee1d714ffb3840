"""Entry point of the ingress process."""

from __future__ import annotations

import logging
import sys

import uvloop

from ingress.app import create_app
from ingress.settings import IngressSettings
from schemas.runtime.settings import read_settings, redacted
from schemas.runtime.telemetry import configure_logging

_LOG = logging.getLogger(__name__)


async def _run(settings: IngressSettings) -> int:
    return await create_app(settings).run()


def main() -> None:
    """Run ingress with the settings in the environment."""
    settings = read_settings(IngressSettings)
    configure_logging("ingress", settings.log_level)
    _LOG.info("settings: %s", redacted(settings))
    sys.exit(uvloop.run(_run(settings)))


if __name__ == "__main__":
    main()

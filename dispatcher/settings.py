"""Settings of the dispatcher."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import Field

from schemas.runtime.settings import WorkerSettings


class DispatcherSettings(WorkerSettings):
    """What the dispatcher is told by its environment."""

    concurrency: int = Field(default=512, ge=1, le=10_000)
    """Backend calls under way at once."""


def backend_api_keys() -> Mapping[str, str]:
    """The ``BACKEND_<ID>_API_KEY`` variables; read once, by the entry point."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("BACKEND_") and name.endswith("_API_KEY")
    }

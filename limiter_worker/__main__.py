"""Entry point: ``tallygate limiter`` or ``python -m limiter_worker``."""

from __future__ import annotations

from limiter_worker.app import create_app
from limiter_worker.settings import LimiterSettings
from schemas.runtime.process.run import run_process


def main() -> None:
    """Run the limiter until it is told to stop."""
    run_process("limiter_worker", LimiterSettings, create_app)


if __name__ == "__main__":
    main()

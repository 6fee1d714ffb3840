"""Entry point of the process that runs batches."""

from __future__ import annotations

from ingress.batches.app import create_app
from ingress.batches.settings import BatchesSettings
from schemas.runtime.process.run import run_process


def main() -> None:
    """Run batches with the settings in the environment."""
    run_process("batches", BatchesSettings, create_app)


if __name__ == "__main__":
    main()

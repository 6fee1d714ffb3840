"""Entry point: ``tallygate accounting`` or ``python -m accounting``."""

from __future__ import annotations

from accounting.app import create_app
from accounting.settings import AccountingSettings
from schemas.runtime.process.run import run_process


def main() -> None:
    """Run accounting until it is told to stop."""
    run_process("accounting", AccountingSettings, create_app)


if __name__ == "__main__":
    main()

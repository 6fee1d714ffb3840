"""Entry point: ``tallygate dispatcher`` or ``python -m dispatcher``."""

from __future__ import annotations

from dispatcher.app import create_app
from dispatcher.settings import DispatcherSettings, backend_api_keys
from schemas.runtime.process.run import run_process


def main() -> None:
    """Run the dispatcher until it is told to stop."""
    api_keys = backend_api_keys()
    run_process("dispatcher", DispatcherSettings, lambda settings: create_app(settings, api_keys))


if __name__ == "__main__":
    main()

"""Entry point of the ingress process."""

from __future__ import annotations

from ingress.app import create_app
from ingress.settings import IngressSettings
from schemas.runtime.process.run import run_process


def main() -> None:
    """Run ingress with the settings in the environment."""
    run_process("ingress", IngressSettings, create_app)


if __name__ == "__main__":
    main()

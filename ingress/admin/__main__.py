"""Entry point of the admin process."""

from __future__ import annotations

from ingress.admin.app import create_app
from ingress.admin.settings import AdminSettings
from schemas.runtime.process.run import run_process


def main() -> None:
    """Run the control plane with the settings in the environment."""
    run_process("admin", AdminSettings, create_app)


if __name__ == "__main__":
    main()

"""What the control plane is told by its environment."""

from __future__ import annotations

from schemas.runtime.process.settings import PepperSettings


class AdminSettings(PepperSettings):
    """Settings of the admin process, prefix ``TALLYGATE_``."""

    admin_port: int = 8443
    """Port of ``/admin/v1``, which only this machine's programs may use whatever the host is, and of
    ``/v1/status`` and ``/metrics``."""

"""How far a scan of the control plane is, for whoever waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.cli.output import CommandFailed

if TYPE_CHECKING:
    from deploy.cli.client import AdminClient

_ASKED_WITHIN_S = 5.0


def scan_progress(admin: AdminClient, kind: str) -> tuple[int, int] | None:
    """Records read, of how many; ``None`` while that is not known."""
    try:
        scans = admin.get("/scans", timeout_s=_ASKED_WITHIN_S)["items"]
    except CommandFailed:
        return None  # The scan itself says what is wrong.
    return next(((s["done"], s["total"]) for s in scans if s["kind"] == kind and s["total"]), None)

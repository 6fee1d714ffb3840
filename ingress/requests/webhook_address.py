"""Whether a client's end may be told where it wishes. Pure."""

from __future__ import annotations

from ingress.apis.parsed_request import invalid
from ingress.http.refusals import Refusal
from ingress.http.request import WEBHOOK_URL
from schemas.config_state import Snapshot
from schemas.webhooks import is_covered

__all__ = ["refuse_address"]


def refuse_address(url: str, org: str, snapshot: Snapshot) -> Refusal | None:
    """Why nothing of an organization is told at an address that its client names."""
    known = snapshot.organizations.get(org)
    webhooks = None if known is None else known.webhooks
    if webhooks is not None and is_covered(url, webhooks.allowed):
        return None
    return invalid(WEBHOOK_URL, "begins with none of the addresses that the organization allows")

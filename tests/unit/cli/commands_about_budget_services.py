"""Commands that switch an external budget service on and off, and what the admin API answers to them."""

from __future__ import annotations

from typing import Any, Final

_ORG: Final[dict[str, Any]] = {"id": "acme", "version": 3, "name": None, "limits": {"budgets": []}}
_ASKED: Final = {"budget_service": {"while_down": "deny", "remainder_of": "key"}}
_WRITTEN: Final = {"PUT /orgs/acme": {"id": "acme", "version": 4}}

ABOUT_BUDGET_SERVICES: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (
        ("orgs", "set", "acme", "--budget-service", "last_known", "--remainder-of", "key"),
        {"GET /orgs/acme": _ORG} | _WRITTEN,
    ),
    (("orgs", "set", "acme", "--rps", "8"), {"GET /orgs/acme": _ORG | _ASKED} | _WRITTEN),
    (
        ("orgs", "set", "acme", "--budget-service", "off"),
        {"GET /orgs/acme": _ORG | _ASKED} | _WRITTEN,
    ),
    (("orgs", "set", "acme", "--remainder-of", "key"), {"GET /orgs/acme": _ORG}),
)

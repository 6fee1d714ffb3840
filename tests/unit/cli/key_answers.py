"""What the admin API answers about keys, for the cases of the command line."""

from __future__ import annotations

from typing import Any

AT_MS = 1_700_000_000_123
KEY: dict[str, Any] = {
    "id": "key_1",
    "version": 2,
    "org": "acme",
    "name": "nightly ü",
    "display": "tg_live_…x1",
    "limits": {"requests_per_s": 2.5, "budgets": [{"usd": "10.00", "period": "month"}]},
    "models": ["echo", "slow"],
    "scopes": ["inference"],
    "networks": ["10.0.0.0/8", "2001:db8::/32"],
    "pepper": "previous",
    "signing": "current",
    "expires_at_ms": AT_MS,
    "revoked_at_ms": None,
    "created_at_ms": AT_MS,
}
SECRET: dict[str, Any] = {"key": "tg_live_x", "key_id": "key_1", "org": "acme"}
ROTATED: dict[str, Any] = SECRET | {
    "signing_secret": "tg_sign_y",
    "generation": 2,
    "earlier": [{"display": "tg_live_…x0", "expires_at_ms": AT_MS}],
}

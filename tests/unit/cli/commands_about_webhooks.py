"""Commands about webhooks, and what the admin API answers to them."""

from __future__ import annotations

from typing import Any, Final

_ORG: Final[dict[str, Any]] = {"id": "acme", "version": 3, "name": None, "limits": {"budgets": []}}
_HOOKS: Final = {"url": "https://a.example/in", "allowed": [], "events": None, "secrets": [1]}
_TOLD: Final = {"GET /orgs/acme": _ORG | {"webhooks": _HOOKS}}
_WRITTEN: Final = {"PUT /orgs/acme": {"id": "acme", "version": 4}}
_MESSAGE: Final = {
    "id": "msg_0123456789abcdef0123456789abcdef",
    "org": "acme",
    "type": "job.completed",
    "url": None,
    "state": "waiting",
    "happened_at_ms": 1_700_000_000_000,
    "tries": 2,
    "answer": "status 503",
    "next_at_ms": 1_700_000_030_000,
    "round": 0,
}
_GIVEN_UP: Final = _MESSAGE | {"state": "given_up", "next_at_ms": None, "answer": "no such host"}
_WHOLE: Final = {"records": 7, "gave_up": None}
_SECRETS: Final = [
    {"generation": 2, "secret": "whsec_bmV3"},
    {"generation": 1, "secret": "whsec_b2xk"},
]
_DONE: Final = {"count": 2, "ids": [_MESSAGE["id"]], "dry_run": False, "search": _WHOLE}

ABOUT_WEBHOOKS: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (
        ("webhooks", "set", "acme", "--hook", "https://b.example/in", "--event", "threshold"),
        _TOLD | _WRITTEN,
    ),
    (
        ("webhooks", "set", "acme", "--allow", "https://b.example/", "--sign-with", "1"),
        {"GET /orgs/acme": _ORG} | _WRITTEN,
    ),
    (("webhooks", "set", "acme", "--off"), _TOLD | _WRITTEN),
    (("orgs", "set", "acme", "--rps", "9"), _TOLD | _WRITTEN),
    (
        ("webhooks", "secrets", "acme"),
        {"POST /webhooks/secrets": {"org": "acme", "secrets": _SECRETS}},
    ),
    (
        ("webhooks", "list", "--org", "acme", "--since", "2h", "--limit", "3"),
        {"GET /webhooks": {"items": [_MESSAGE, _GIVEN_UP], "search": _WHOLE}},
    ),
    (
        ("webhooks", "list", "--state", "given_up"),
        {"GET /webhooks": {"items": [], "search": {"records": 7, "gave_up": "time"}}},
    ),
    (
        ("webhooks", "redeliver", "acme", "--delivered", "--since", "7d"),
        {"POST /webhooks/redeliver": _DONE},
    ),
    (
        ("webhooks", "redeliver", "acme", str(_MESSAGE["id"]), "--dry-run"),
        {"POST /webhooks/redeliver": _DONE | {"dry_run": True}},
    ),
)

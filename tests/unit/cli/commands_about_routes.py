"""Commands about routes and their overrides, and what the admin API answers to them."""

from __future__ import annotations

from typing import Any

AT_MS = 1_700_000_000_123
OVERRIDE: dict[str, Any] = {
    "kind": "pin",
    "id": "echo",
    "version": 3,
    "what": "only a",
    "backend": "a",
    "expires_at_ms": AT_MS,
    "reason": "b answers nonsense",
    "by": "admin",
    "at_ms": AT_MS,
    "in_force": True,
    "why_not": None,
}
OVERRIDDEN: dict[str, Any] = {
    "kind": "pin",
    "id": "echo",
    "version": 3,
    "offset": 9,
    "body": {"backend": "a", "expires_at_ms": AT_MS, "reason": None},
    "applied": True,
    "applied_after_ms": 64,
    "warnings": [],
}
NOT_EVERYWHERE: dict[str, Any] = OVERRIDDEN | {
    "applied": False,
    "applied_after_ms": None,
    "warnings": ["model echo has no backend in use: its requests end with 503"],
}
RESTORED: dict[str, Any] = OVERRIDDEN | {"body": None}
EXPLAINED: dict[str, Any] = {
    "model": "echo",
    "now_ms": AT_MS,
    "refused": None,
    "steps": ["declared: a=3, b=1", "may be called: a=3, b=1"],
    "dispatchers": [
        {
            "instance": "dispatcher-0",
            "offset": 9,
            "age_ms": 1_249,
            "shares": {"a": 1.0},
            "refused": None,
            "steps": ["a: gets 100 % (weight 3)", "b: is not called (breaker of the backend open)"],
        }
    ],
}
ABOUT_ROUTES: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("backends", "drain", "a"), {"PUT /overrides/drain/a": OVERRIDDEN}),
    (("backends", "restore", "a"), {"POST /backends/a/restore": OVERRIDDEN}),
    (
        ("routes", "list"),
        {
            "GET /overrides": {
                "items": [
                    OVERRIDE,
                    OVERRIDE | {"kind": "drain", "id": "a", "in_force": False, "why_not": "ended"},
                ]
            }
        },
    ),
    (
        ("routes", "pin", "echo", "a", "--for", "90m", "--reason", "b answers nonsense"),
        {"PUT /overrides/pin/echo": OVERRIDDEN},
    ),
    (("routes", "pin", "echo", "a", "--for", "1h", "--until", "2026-11-27"), {}),
    (
        ("routes", "pin", "echo", "a", "--until", "2026-11-27T06:00:00Z"),
        {"PUT /overrides/pin/echo": NOT_EVERYWHERE},
    ),
    (("routes", "weights", "echo", "a=9", "b=0"), {"PUT /overrides/weights/echo": OVERRIDDEN}),
    (("routes", "canary", "echo", "b=0.5"), {"PUT /overrides/canary/echo": OVERRIDDEN}),
    (("routes", "timeout", "echo", "20"), {"PUT /overrides/timeout/echo": OVERRIDDEN}),
    (("routes", "retries", "echo", "0"), {"PUT /overrides/retries/echo": OVERRIDDEN}),
    (("routes", "drain", "a", "--for", "90s"), {"PUT /overrides/drain/a": OVERRIDDEN}),
    (
        ("routes", "restore", "echo"),
        {
            "GET /overrides": {
                "items": [OVERRIDE, OVERRIDE | {"kind": "canary"}, OVERRIDE | {"id": "other"}]
            },
            "DELETE /overrides/pin/echo": RESTORED,
            "DELETE /overrides/canary/echo": RESTORED,
        },
    ),
    (("routes", "restore", "echo", "--only", "canary"), {"GET /overrides": {"items": [OVERRIDE]}}),
    (("routes", "explain", "echo"), {"GET /routes/echo": EXPLAINED}),
    (
        ("routes", "explain", "echo", "--org", "acme", "--key", "key_1"),
        {"GET /routes/echo": EXPLAINED | {"refused": "invalid_api_key", "dispatchers": []}},
    ),
)

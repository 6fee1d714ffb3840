"""Commands about prices, and what the admin API answers to them; ``prices.json`` is a piece of the real file."""

from __future__ import annotations

from typing import Any

PRICED: dict[str, Any] = {
    "id": "echo",
    "version": 4,
    "backends": [{"backend": "a", "weight": 1, "upstream_model": None, "price_multiplier": None}],
    "input_usd_per_mtok": "2",
    "output_usd_per_mtok": "8",
    "cached_input_usd_per_mtok": None,
    "prices": [],
}
ABOUT_PRICES: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("prices", "show", "echo"), {"GET /models/echo": PRICED}),
    (("prices", "show", "gone"), {}),
    (
        ("prices", "diff", "prices.json", "--model", "echo=gpt-6-luna"),
        {"GET /models": {"items": [PRICED]}},
    ),
    (("prices", "diff", "prices.json"), {"GET /models": {"items": [PRICED]}}),
    (
        ("prices", "diff", "prices.json", "--model", "echo=gpt-unknown"),
        {"GET /models": {"items": [PRICED]}},
    ),
    (("prices", "diff", "missing.json"), {"GET /models": {"items": [PRICED]}}),
    (
        ("prices", "import", "prices.json", "--model", "echo=claude-haiku-5-5", "--from", "2026-12-01"),
        {"GET /models": {"items": [PRICED]}, "PUT /models/echo": {"id": "echo", "version": 5}},
    ),
    (
        ("prices", "import", "prices.json", "--model", "echo=amazon.nova-canvas-v1:0"),
        {"GET /models": {"items": [PRICED]}},
    ),
)  # fmt: skip

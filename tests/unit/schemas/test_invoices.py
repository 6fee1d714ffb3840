"""Holds and costs against a provider that bills by code of its own, over all dimensions at random.

``make prices-oracle`` runs a hundred thousand of them.
"""

from __future__ import annotations

import pytest

from tests.support.price_oracle import compare
from tests.support.provider_bill import Use, invoice_nano_usd


@pytest.mark.parametrize("seed", [1, 2])
def test_no_invoice_exceeds_its_hold_and_every_cost_is_its_invoice(seed: int) -> None:
    """Each to the nano-USD; and no budget is exceeded by the sum of them."""
    sums = compare(seed, 1_000)

    assert sums.findings == []
    assert sums.count["finished"] > 500
    assert 0 < sums.count["invoices_nano_usd"] < sums.count["holds_nano_usd"]


_SONNET = {
    "backends": [{"backend": "b1"}],
    "input_usd_per_mtok": "3",
    "output_usd_per_mtok": "15",
}


@pytest.mark.parametrize(
    ("use", "usd_e9"),
    [
        (Use(1_000_000, 1_000_000), 18_000_000_000),
        (Use(1_000_000, 0, {"cache_write": 1_000_000}), 3_750_000_000),
        (Use(1_000_000, 0, {"cache_write_1h": 1_000_000}), 6_000_000_000),
        (Use(1_000_000, 0, {"cached_input": 400_000}), 3_000_000_000),
    ],
)
def test_the_provider_bills_what_its_price_page_says(use: Use, usd_e9: int) -> None:
    """The oracle itself, against Anthropic's table for Claude Sonnet 4.5 (prompt caching, pricing)."""
    assert invoice_nano_usd(_SONNET, "2026-11-01", None, "b1", use) == usd_e9

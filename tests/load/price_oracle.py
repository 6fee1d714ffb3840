"""A hundred thousand invoices of random requests over all price dimensions, beside a provider that bills by code of its own.

    python -m tests.load.price_oracle --requests 150000 --seed 1

Prints what was asked, refused, held and invoiced; exit code 1 with the first findings when an invoice exceeds its
hold, a cost is not its invoice, or a budget is exceeded.
"""

from __future__ import annotations

import argparse
import sys
import time

from schemas.money import usd
from tests.support.price_oracle import compare

_LISTED_MAX = 5


def main() -> int:
    """Run, and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--requests", type=int, default=150_000, help="of which budgets refuse about a quarter"
    )
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    began_s = time.monotonic()
    sums = compare(asked.seed, asked.requests)
    for name, amount in sorted(sums.count.items()):
        is_money = name.endswith("_nano_usd")
        print(
            f"{name.removesuffix('_nano_usd'):<24} {usd(amount) + ' USD' if is_money else amount}"
        )
    print(f"findings                 {len(sums.findings)}  ({time.monotonic() - began_s:.0f} s)")
    for finding in sums.findings[:_LISTED_MAX]:
        print(finding)
    return 1 if sums.findings else 0


if __name__ == "__main__":
    sys.exit(main())

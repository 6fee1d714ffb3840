"""Open loop: requests leave at planned times, whatever the server does.

`python -m tests.load.open --url U --key K --rate 50 --seconds 20`. Latency counts from the planned
time, so a stall shows in every request that should have been sent in it.
"""

from __future__ import annotations

import uvloop

from deploy.bench.drivers import run_open
from tests.load.options import measure, parser, requests_of, show


def main() -> None:
    """Read the command line, run, report."""
    options = parser(__doc__ or "")
    options.add_argument("--rate", type=float, default=50.0, help="requests per second")
    chosen = options.parse_args()
    requests = requests_of(chosen)
    report = uvloop.run(
        measure(
            f"open {chosen.rate:g}/s",
            lambda: run_open(chosen.url, requests, chosen.rate, chosen.seconds),
            chosen.pids,
        )
    )
    show(report, as_json=chosen.json)


if __name__ == "__main__":
    main()

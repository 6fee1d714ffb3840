"""Closed loop: a fixed number of connections, each sending its next request after an answer.

`python -m tests.load.closed --url U --key K --connections 64 --seconds 10`. It finds the highest
rate a server sustains; it slows down with the server, so judge latency by the open loop.
"""

from __future__ import annotations

import uvloop

from deploy.bench.drivers import run_closed
from tests.load.options import measure, parser, requests_of, show


def main() -> None:
    """Read the command line, run, report."""
    options = parser(__doc__ or "")
    options.add_argument("--connections", type=int, default=64)
    chosen = options.parse_args()
    requests = requests_of(chosen)
    report = uvloop.run(
        measure(
            f"closed {chosen.connections}",
            lambda: run_closed(chosen.url, requests, chosen.connections, chosen.seconds),
            chosen.pids,
        )
    )
    show(report, as_json=chosen.json)


if __name__ == "__main__":
    main()

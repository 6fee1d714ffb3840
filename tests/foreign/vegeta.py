"""`make vegeta`: our open loop and vegeta's, one after the other on the same stack, at the same rate and model.

Two programs that share no line send from planned times, so their percentiles should tell the same. What they say is printed;
exit code 1 when one saw a request fail, or their medians are further apart than a fifth and five milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from deploy.bench.bench import Bench, Wanted
from deploy.bench.runs import fresh_target
from deploy.bench.target import PAUSED_MODEL, Target
from tests.foreign.packages import VEGETA, go_program

_APART_SHARE: Final = 0.2
_APART_MS: Final = 5.0
_MS: Final = 1_000_000
"""Vegeta counts in nanoseconds."""
_WARM_UP_S: Final = 4.0
_COLUMNS: Final = ("p50", "p95", "p99", "max")
Row = dict[str, float]


async def beside(vegeta: Path, rate_per_s: float, seconds: float) -> tuple[Row, Row]:
    """Percentiles in ms of ours and of vegeta's, with how many were sent and how many failed."""
    async with fresh_target(dict(os.environ), lambda line: print(line, file=sys.stderr)) as target:
        bench = Bench(target, Wanted(rate_per_s), lambda line: print(line, file=sys.stderr))
        load = bench.load(
            model=PAUSED_MODEL, seconds=_WARM_UP_S + seconds, warm_up_s=_WARM_UP_S, pids={}
        )
        found = await bench.drive("ours", load)
        report = await asyncio.to_thread(attack, vegeta, target, rate_per_s, seconds)
    late = found.latency
    ours = {"p50": late.p50_ms, "p95": late.p95_ms, "p99": late.p99_ms, "max": late.max_ms}
    failed = sum(found.report.errors.values())
    return {**ours, "sent": len(found.samples), "failed": failed}, as_row(report)


def as_row(report: dict[str, Any]) -> Row:
    """Vegeta's report in our words."""
    late = report["latencies"]
    named = {"p50": "50th", "p95": "95th", "p99": "99th", "max": "max"}
    percentiles = {column: late[named[column]] / _MS for column in _COLUMNS}
    good = report["status_codes"].get("200", 0)
    return {**percentiles, "sent": report["requests"], "failed": report["requests"] - good}


def attack(vegeta: Path, target: Target, rate_per_s: float, seconds: float) -> dict[str, Any]:
    """What vegeta reports. The key stands in a file of this user's, and on no command line."""
    said = [{"role": "user", "content": "load of the gateway"}]
    body = {"model": PAUSED_MODEL, "max_tokens": 64, "messages": said}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_text(json.dumps(body), encoding="utf-8")
        targets = Path(folder) / "targets"
        targets.write_text(
            f"POST {target.url}/chat/completions\nAuthorization: Bearer {target.key}\n"
            f"Content-Type: application/json\n@{folder}/body\n",
            encoding="utf-8",
        )
        results = Path(folder) / "results"
        options = [f"-rate={rate_per_s:g}/s", f"-duration={seconds:g}s", "-timeout=30s"]
        options += [f"-targets={targets}", f"-output={results}", "-redirects=-1"]
        subprocess.run([str(vegeta), "attack", *options], check=True, timeout=seconds + 90)
        command = [str(vegeta), "report", "-type=json", str(results)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def problems(ours: Row, theirs: Row) -> list[str]:
    """What keeps them from telling the same."""
    found = [
        f"{n}: {row['failed']:.0f} failed"
        for n, row in (("ours", ours), ("vegeta", theirs))
        if row["failed"]
    ]
    apart_ms = abs(ours["p50"] - theirs["p50"])
    if apart_ms > max(_APART_MS, _APART_SHARE * theirs["p50"]):
        found.append(f"medians are {apart_ms:.1f} ms apart")
    return found


def main() -> int:
    """Read the command line, run both, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    vegeta = go_program(VEGETA)
    if vegeta is None:
        return 1
    ours, theirs = asyncio.run(beside(vegeta, chosen.rate, chosen.seconds))
    print(f"{'driver':<10}{'sent':>7}{'failed':>8}" + "".join(f"{c + ' ms':>11}" for c in _COLUMNS))
    for name, row in (("ours", ours), ("vegeta", theirs)):
        figures = "".join(f"{row[column]:>11.1f}" for column in _COLUMNS)
        print(f"{name:<10}{row['sent']:>7.0f}{row['failed']:>8.0f}{figures}")
    found = problems(ours, theirs)
    print("; ".join(found) or "both tell the same")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

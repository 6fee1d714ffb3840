"""Schemathesis over the published OpenAPI document, against a running stack: `python -m tests.foreign.api_document [--seconds 600]`.

It makes requests that the document allows and ones that it does not, public and admin, and holds each answer against the document: no
status, content type or body that is not told there, and no 5xx but a stated overload, outage or deadline.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from schemas.runtime.process.published import FOLDER
from tests.foreign.packages import SCHEMATHESIS, python_with
from tests.support.harness.running_stack import running_stack

_PROGRAMS = Path(__file__).parent / "programs"
_LEFT_OUT = (
    "not_a_server_error",  # stated_server_errors knows which may be
    "negative_data_rejection",  # what is unknown to us goes to the backend, as OpenAI's clients expect
    "positive_data_acceptance",  # a model's name that is well formed need not be one
    "missing_required_header",
    "ignored_auth",  # it spoils one of two headers that a key may stand in, and leaves the good one
)
_MARGIN_S = 300.0


@dataclass(frozen=True)
class Half:
    """The routes of one port."""

    name: str
    origin: str
    paths: str
    headers: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Checks that mean nothing there."""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def run(python: Path, half: Half, seconds: int, folder: Path) -> bool:
    """Whether nothing was found; says what was."""
    report = folder / f"{half.name}.ndjson"
    command = [str(python.with_name("schemathesis")), "run", str(FOLDER / "openapi.json")]
    command += ["--url", half.origin, "--include-path-regex", half.paths, "--no-color"]
    command += ["--checks", "all", "--exclude-checks", ",".join((*_LEFT_OUT, *half.left_out))]
    # One worker: with several its own generator dies of CPython's limit of recursion.
    command += ["--max-time", str(seconds), "--continue-on-failure", "--workers", "1"]
    command += ["--request-timeout", "130", "--suppress-health-check", "all", "--warnings", "off"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(report)]
    command += [part for header in half.headers for part in ("--header", header)]
    own = {**os.environ, "SCHEMATHESIS_HOOKS": "stated_errors", "PYTHONPATH": str(_PROGRAMS)}
    done = subprocess.run(
        command, cwd=folder, env=own, timeout=seconds + _MARGIN_S, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print(f"\n{half.name}: exit code {done.returncode}\n{done.stdout[-20_000:]}", flush=True)
    statuses = Counter(_statuses(report))
    told = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    print(f"{half.name}: {sum(statuses.values())} answers ({told})", flush=True)
    return done.returncode == 0


def _statuses(report: Path) -> Iterator[int]:
    """The status of every answer in a report."""
    with report.open(encoding="utf-8") as lines:
        for line in lines:
            yield from _found(json.loads(line))


def _found(part: object) -> Iterator[int]:
    if isinstance(part, dict):
        if isinstance(status := part.get("status_code"), int) and "headers" in part:
            yield status
        for each in part.values():
            yield from _found(each)
    elif isinstance(part, list):
        for each in part:
            yield from _found(each)


def main() -> int:
    """Half of the time for each port; 1 when something was found."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=600)
    seconds = options.parse_args().seconds // 2
    python = python_with(SCHEMATHESIS)
    if python is None:
        return 0
    with tempfile.TemporaryDirectory() as scratch, running_stack(Path(scratch) / "state") as stack:
        halves = (
            Half(
                "public",
                _origin(stack.api_url),
                "^/(?!admin/)",
                (f"X-API-Key: {stack.first_key}",),
            ),
            # An id may contain slashes, so `PUT /keys/k/rotate` is about the key `k/rotate`: nothing that OpenAPI can tell.
            Half(
                "admin",
                _origin(stack.admin_url),
                "^/admin/",
                left_out=("unsupported_method", "allow_header_conformance"),
            ),
        )
        found = [run(python, half, seconds, Path(scratch)) for half in halves]
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())

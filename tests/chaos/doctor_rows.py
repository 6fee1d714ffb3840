"""`make doctor-rows`: each fault that ``tallygate doctor`` has to find is made for real, one by one, on a running stack.

`python -m tests.chaos.doctor_rows [--only NAME ...]` starts two stacks: one alone, and a cluster with --mtls, --kafka-users and
--store-users. On both the doctor finds nothing first. Then each row: the fault, the line that was found, what it says to
run, followed word for word where that mends it, and nothing found again. Exit code 1 when a row was not found where it was made, when
something else was found, or when the stack did not get well.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.ill_stack import IllStack, ill_stack
from tests.chaos.illnesses import ALONE, GUARDED, Row

_WITHIN_S = 90.0
_FOLLOWS_FROM = {
    "bus": {"component"},
    "configuration": {"acl", "component"},
    "acl": {"component"},
    # All are made together: the port's own, who vouches, and the one this command line comes with.
    "certificate": {"certificate"},
    "disk": {"component"},
    "instance id": {"component"},
    "backend url": {"model", "backend"},
    "port": {"admin API", "port", "kafka jars", "java"},
    "schema": {"component"},
}
"""What else is true while a fault is there."""


@dataclass(frozen=True)
class Result:
    """What became of a row."""

    row: Row
    found: dict[str, Any] | None
    after_s: float
    others: list[str]
    is_well: bool

    @property
    def is_right(self) -> bool:
        return self.found is not None and not self.others and (self.is_well or not self.row.heals)

    def text(self) -> str:
        """The line of the table."""
        if self.found is None:
            return f"{self.row.name:<36} NOT FOUND alone, but {self.others}"
        line = "{check}: {where}: {text}  run: {run}".format(**self.found)
        how = "by what it says" if self.row.is_remedied else "by us"
        end = f"well again ({how})" if self.is_well else "stays"
        odd = f"  ALSO {self.others}" if self.others else ""
        return f"{self.row.name:<36} {self.after_s:5.1f} s  {line}  -> {end}{odd}"


async def _until_found(ill: IllStack, row: Row) -> tuple[dict[str, Any] | None, list[str]]:
    give_up_s, others = time.monotonic() + _WITHIN_S, list[str]()
    while time.monotonic() < give_up_s:
        said = await ill.doctor(is_elsewhere=row.check == "port")
        known = _FOLLOWS_FROM.get(row.check, set())
        ours = [
            c for c in said if c["check"] == row.check and str(c["where"]).startswith(row.where)
        ]
        others = [
            f"{c['check']}: {c['where']}" for c in said if c not in ours and c["check"] not in known
        ]
        if ours and not others:
            return ours[0], []
    return None, others


async def _remedy(ill: IllStack, row: Row, found: dict[str, Any]) -> None:
    """What the finding says; where it follows from another, what that one says."""
    if row.check == "configuration":
        found = next(each for each in await ill.doctor() if each["check"] == "acl")
    await ill.follow(found["run"])


async def _until_well(ill: IllStack) -> tuple[bool, list[str]]:
    give_up_s, said = time.monotonic() + _WITHIN_S, list[dict[str, Any]]()
    while time.monotonic() < give_up_s:
        said = await ill.doctor()
        if not said:
            return True, []
    return False, [f"{c['check']}: {c['where']}: {c['text']}" for c in said]


async def _play(ill: IllStack, row: Row) -> Result:
    began_s = time.monotonic()
    async with row.seed(ill):
        found, others = await _until_found(ill, row)
        after_s = time.monotonic() - began_s
        if found is not None and row.is_remedied:
            await _remedy(ill, row, found)
    is_well, left = await _until_well(ill) if row.heals else (False, [])
    return Result(row, found, after_s, others + left, is_well)


async def _rows(folder: Path, rows: Sequence[Row], *, is_guarded: bool) -> list[Result]:
    results = []
    async with ill_stack(folder, is_guarded=is_guarded) as ill:
        is_well, said = await _until_well(ill)
        what = "cluster, --mtls, --kafka-users, --store-users" if is_guarded else "alone"
        print(f"healthy, {what}: {'nothing found' if is_well else said}", flush=True)
        if not is_well:
            return []
        for row in rows:
            results.append(await _play(ill, row))
            print(results[-1].text(), flush=True)
    return results


async def play(names: Sequence[str]) -> bool:
    """Play all rows, or some; whether all is as it should be."""
    results, wanted = list[Result](), 0
    with tempfile.TemporaryDirectory(prefix="tallygate-doctor-") as name:
        for is_guarded, rows in ((False, ALONE), (True, GUARDED)):
            chosen = [row for row in rows if not names or any(n in row.name for n in names)]
            wanted += len(chosen)
            if chosen:
                folder = Path(name) / ("guarded" if is_guarded else "alone")
                results += await _rows(folder, chosen, is_guarded=is_guarded)
    right = sum(result.is_right for result in results)
    print(f"{right} of {wanted} rows are as they should be", flush=True)
    return right == wanted


def main() -> int:
    """Read the command line, play, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="*", default=(), help="parts of names of rows")
    return 0 if asyncio.run(play(options.parse_args().only)) else 1


if __name__ == "__main__":
    sys.exit(main())

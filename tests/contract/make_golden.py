"""Writes the golden bytes of schema versions that have none yet; run once per new version.

    python -m tests.contract.make_golden

Existing files are never written again: they stand for records that are already in somebody's log.
"""

from __future__ import annotations

from pathlib import Path

from schemas.codec import encode, published_schemas
from tests.support.event_samples import SAMPLES

GOLDEN = Path(__file__).parents[1] / "golden"


def golden_path(name: str, version: int) -> Path:
    """Where the bytes of a version stand."""
    return GOLDEN / f"{name}.v{version}.bin"


def write_missing() -> list[Path]:
    """The files written now: of the newest version of each schema, where there is none."""
    newest = {published.name: published for published in published_schemas()}
    written = []
    for published in newest.values():
        path = golden_path(published.name, published.version)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encode(SAMPLES[published.name]))
            written.append(path)
    return written


if __name__ == "__main__":
    for fresh in write_missing():
        print(fresh.name)

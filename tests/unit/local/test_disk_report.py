"""Whoever runs beside the broker says how much room its disk has."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from deploy.embedded.disk_report import report_disk
from ingress.health.conditions import low_disk
from ingress.health.fleet import LastSeen, Moment
from schemas.ledger.keys import BROKER_DISK
from tests.unit.runtime.resp_server import resp_server

_DEADLINE_S = 5.0


async def test_a_report_is_what_ingress_reads(tmp_path: Path) -> None:
    """Free bytes, all bytes and the time, under the broker's name; one more byte than is free is too many."""
    heard = asyncio.Event()

    def answer(_: list[bytes]) -> bytes:
        heard.set()
        return b":1\r\n"

    async with resp_server(answer) as server:
        reporting = asyncio.create_task(report_disk(tmp_path, "broker-1", server.url))
        await asyncio.wait_for(heard.wait(), _DEADLINE_S)
        reporting.cancel()
        await asyncio.wait([reporting])

    *_, key, broker, line = server.commands[0]
    assert (key, broker) == (BROKER_DISK.encode(), b"broker-1")
    free, total, written_ms = map(int, line.split())
    assert total == shutil.disk_usage(tmp_path).total
    now = Moment(written_ms, 0.0)
    told = {"broker-1": line.decode()}
    assert low_disk(told, LastSeen(), now, free) is None
    assert low_disk(told, LastSeen(), now, free + 1) == f"broker-1 has {free} bytes left"

"""Starts a driver as a process of its own, hands it its load and waits for what came of it, within a deadline."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import msgspec

from deploy.bench.load import Driven, Load, longest_s


class DriverFailed(Exception):
    """A driver ended without a result."""


async def driven(load: Load) -> Driven:
    """What came of it. Raises ``DriverFailed``; the process is gone in any case."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "deploy.bench.drive"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(longest_s(load)):
            out, said = await process.communicate(msgspec.json.encode(load))
    except TimeoutError as late:
        raise DriverFailed(f"a driver took longer than {longest_s(load):.0f} s") from late
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise DriverFailed(f"a driver ended with code {process.returncode}: {last}")
    return msgspec.json.decode(out, type=Driven)

"""Starts a driver as a process of its own, hands it its load and waits for what came of it, within a deadline."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import suppress

import msgspec

from deploy.bench.load import Driven, Load, longest_s


class DriverFailed(Exception):
    """A driver ended without a result."""


async def driven(load: Load) -> Driven:
    """What came of it. Raises ``DriverFailed``; the process is gone in any case."""
    # A file takes all that is written at once, however late its reader is.
    with tempfile.TemporaryFile() as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "deploy.bench.drive"),
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(longest_s(load)):
                _, said = await process.communicate(msgspec.json.encode(load))
        except TimeoutError as late:
            raise DriverFailed(f"a driver took longer than {longest_s(load):.0f} s") from late
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode:
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise DriverFailed(f"a driver ended with code {process.returncode}: {last}")
        out.seek(0)
        return msgspec.json.decode(out.read(), type=Driven)

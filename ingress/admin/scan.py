"""One scan as a process: ``python -m ingress.admin.scan KIND``, started by ``Scans`` and by nobody else.

The first line of its input is the job. The rest is its lifeline: when that ends, so does the scan.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final

import msgspec

_LOW_PRIORITY: Final = 10
"""A tenth of what others get while they want the processor; less would leave a scan no time on a busy machine."""
_TELL_EVERY_S: Final = 0.2


def main() -> None:
    """Run the scan of that kind at low priority, and write its answer."""
    os.nice(_LOW_PRIORITY)
    # What is imported takes as long as many a scan, so it comes after.
    from aiokafka.errors import KafkaError  # noqa: PLC0415

    from ingress.admin.finance.reconciliation import ReconcileJob, reconcile  # noqa: PLC0415
    from ingress.admin.finance.verification import VerifyJob, verify  # noqa: PLC0415
    from schemas.failures import Transient  # noqa: PLC0415

    kinds: dict[str, tuple[type[Any], Callable[..., Awaitable[Any]]]] = {
        "ledger-verify": (VerifyJob, verify),
        "reconcile": (ReconcileJob, reconcile),
    }
    job_type, scan = kinds[sys.argv[1]]
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=job_type)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _write({"answer": asyncio.run(_awaited(scan(job, Teller())))})
    except (Transient, KafkaError, TimeoutError, OSError) as error:
        _write({"unavailable": repr(error)})


class Teller:
    """Writes how far the scan is, now and then."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def __call__(self, done: int, total: int) -> None:
        """So many records were read of so many."""
        if monotonic() >= self._next_s:
            self._next_s = monotonic() + _TELL_EVERY_S
            _write({"done": done, "total": total})


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer


def _write(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _end_with_parent() -> None:
    # Not through the buffer, whose lock a thread must not hold when the process ends.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()

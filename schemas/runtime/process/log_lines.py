"""Logs: one JSON object a line on stdout, and no more lines than somebody can use.

A line that repeats itself is cut short within a second and says how often it was left out, so an outage
or a hostile client cannot fill a disk. Evidence, such as an audit event that Kafka did not take, is never
cut.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from schemas.printable import printable

EVIDENCE: Final = {"is_evidence": True}
"""``extra`` of a line that must not be left out."""

_LINES_PER_S: Final = 10
_TEXT_CHARS_MAX: Final = 16_384
_REMEMBERED_MAX: Final = 1_000
_QUIET_LOGGERS: Final = (
    "aiokafka",
    "faust",
    "mode",
    "httpx",
    "httpcore",
    "uvicorn.error",
    "schemas.runtime.kafka.consume.faust_app",
    "schemas.runtime.kafka.consume.delivery",
)


def configure_logging(service: str, level: str) -> None:
    """One JSON object a line. Called once, by the entry point.

    Chatty libraries stay at WARNING: below it they build debug records on the hot path.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(service))
    handler.addFilter(Throttle())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """A record as a line. Foreign text in it is bounded, and moves no cursor of who reads along."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        is_whole = getattr(record, "is_evidence", False)
        event = record.getMessage()
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname,
            "event": printable(event if is_whole else event[:_TEXT_CHARS_MAX]),
            "logger": record.name,
            "service.name": self._service,
        }
        if left_out := getattr(record, "left_out", 0):
            line["left_out"] = left_out
        if record.exc_info:
            # The end of a traceback says what happened.
            line["exception"] = printable(self.formatException(record.exc_info)[-_TEXT_CHARS_MAX:])
        return msgspec.json.encode(line).decode()


class Throttle(logging.Filter):
    """Lets one statement say so much a second, and all libraries together as much.

    Its first line of a later second tells as ``left_out`` how many were not written.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._second = 0
        self._said: defaultdict[object, int] = defaultdict(int)
        self._left_out: dict[object, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if getattr(record, "is_evidence", False):
            return True
        second = int(self._clock_s())
        if second != self._second:
            self._turn(second)
        is_library = record.name.startswith(_QUIET_LOGGERS)
        statement = "" if is_library else (record.name, record.levelno, str(record.msg))
        self._said[statement] += 1
        if self._said[statement] > _LINES_PER_S:
            return False
        if left_out := self._left_out.pop(statement, 0):
            record.left_out = left_out
        return True

    def _turn(self, second: int) -> None:
        """A new second: all may speak again; what was left out is told by who speaks next."""
        self._second = second
        for statement, said in self._said.items():
            if said > _LINES_PER_S and len(self._left_out) < _REMEMBERED_MAX:
                more = said - _LINES_PER_S
                self._left_out[statement] = self._left_out.get(statement, 0) + more
        self._said.clear()

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
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from schemas.log_events import LogEvent
from schemas.printable import printable
from schemas.runtime.process.event_log import NAMESPACE, Said, text_of

_LINES_PER_S: Final = 10
_FIELD_CHARS_MAX: Final = 4_096
_TRACEBACK_CHARS_MAX: Final = 16_384
_REMEMBERED_MAX: Final = 1_000


def configure_logging(service: str, level: str) -> None:
    """One JSON object a line, warnings of libraries included. Called once, by the entry point.

    Libraries speak from WARNING on: below it they build debug records on the hot path.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(service))
    handler.addFilter(Throttle())
    ours = logging.getLogger(NAMESPACE)
    ours.setLevel(level)
    logging.basicConfig(level=max(ours.level, logging.WARNING), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


class JsonLines(logging.Formatter):
    """A record as a line. Foreign text in it is bounded, and moves no cursor of who reads along."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said = _said(record)
        is_whole = said.event.value.is_evidence
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname,
            "event": said.event.name.lower(),
        }
        for name, value in said.fields.items():
            line[name] = _fit(text_of(value), is_whole=is_whole)
        line["logger"] = record.name.removeprefix(f"{NAMESPACE}.")
        line["service.name"] = self._service
        if left_out := getattr(record, "left_out", 0):
            line["left_out"] = left_out
        if record.exc_info:
            # The end of a traceback says what happened.
            trace = self.formatException(record.exc_info)[-_TRACEBACK_CHARS_MAX:]
            line["exception"] = printable(trace)
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
        event = record.msg.event if isinstance(record.msg, Said) else LogEvent.FOREIGN
        if event.value.is_evidence:
            return True
        second = int(self._clock_s())
        if second != self._second:
            self._turn(second)
        statement = event if event is LogEvent.FOREIGN else (record.name, event)
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


def _said(record: logging.LogRecord) -> Said:
    """What the record says; of a library that is only its text."""
    if isinstance(record.msg, Said):
        return record.msg
    return Said(LogEvent.FOREIGN, {"text": record.getMessage()})


def _fit(value: object, *, is_whole: bool) -> object:
    """The value of a field: numbers as they are, texts bounded and on one line."""
    if isinstance(value, Mapping):
        return {name: _fit(each, is_whole=is_whole) for name, each in value.items()}
    if not isinstance(value, str):
        return value
    return printable(value if is_whole else value[:_FIELD_CHARS_MAX])

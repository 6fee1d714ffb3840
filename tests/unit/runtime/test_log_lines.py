"""Logs: lines that programs can read, bounded in size and in number, and evidence whole."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.events import RecordRef
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import NAMESPACE, EventLog, Said, place_of, traced
from schemas.runtime.process.log_lines import JsonLines, Throttle, configure_logging

_MODULE = f"{NAMESPACE}.ingress.gatekeeper.gate"
_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def _record(event: LogEvent, **fields: object) -> logging.LogRecord:
    return logging.LogRecord(_MODULE, event.value.level, "", 0, Said(event, fields), (), None)


def _foreign(logger: str, message: str = "broker away: %s", *args: object) -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, "", 0, message, args, None)


def _line(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonLines("ingress").format(record)
    assert text.isascii() or text.isprintable()
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture
def own_root() -> Iterator[None]:
    """The root logger is the whole process's; it is put back."""
    root, ours = logging.getLogger(), logging.getLogger(NAMESPACE)
    before = root.level, root.handlers[:], ours.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = before[1]
    root.setLevel(before[0])
    ours.setLevel(before[2])


def test_libraries_that_repeat_themselves_are_cut_short_within_a_second() -> None:
    """An outage of a broker must not fill the disk; the next second they may speak again."""
    now_s = [100.0]
    throttle = Throttle(lambda: now_s[0])
    first = [throttle.filter(_foreign("aiokafka.consumer.fetcher", str(n))) for n in range(500)]
    now_s[0] = 101.0
    second = [throttle.filter(_foreign("aiokafka.conn")) for _ in range(3)]

    assert sum(first) == 10
    assert second == [True] * 3


def test_a_statement_of_ours_that_repeats_itself_is_cut_short_and_says_how_often() -> None:
    """A client that makes us warn makes us warn ten times a second; other statements go on."""
    now_s = [100.0]
    throttle = Throttle(lambda: now_s[0])
    first = [throttle.filter(_record(LogEvent.RESULT_LOST, request_id=str(n))) for n in range(500)]
    other = throttle.filter(_record(LogEvent.RESULT_DIFFERS))
    now_s[0] = 103.0
    later = [_record(LogEvent.RESULT_LOST), _record(LogEvent.RESULT_LOST)]
    passed = [throttle.filter(record) for record in later]

    assert sum(first) == 10
    assert other
    assert passed == [True, True]
    assert _line(later[0])["left_out"] == 490
    assert "left_out" not in _line(later[1])


def test_evidence_is_never_cut() -> None:
    """An audit event that Kafka did not take exists nowhere else."""
    throttle = Throttle(lambda: 1.0)
    records = [_record(LogEvent.AUDIT_EVENT, audit="x" * 100_000) for _ in range(500)]

    assert all(map(throttle.filter, records))
    assert len(_line(records[0])["audit"]) == 100_000


def test_a_line_is_bounded_and_can_always_be_written() -> None:
    """Whatever foreign text it quotes, in whatever field."""
    hostile = "\x1b[2J\n\r\x00\u202e\ud800" + "x" * 10_000_000
    line = _line(_record(LogEvent.SETTINGS, cause=hostile, settings={"name": hostile}))

    for text in (line["cause"], line["settings"]["name"]):
        assert len(text) < 5_000
        assert "\\x1b" in text
        assert "\\ud800" in text
    assert len(_line(_foreign("ingress", "client said %s", hostile))["text"]) < 5_000


def test_a_traceback_keeps_its_end() -> None:
    """There it says what happened."""
    record = _record(LogEvent.PROCESS_ENDS)
    try:
        os.environ["x" * 100_000 + "the reason"]
    except KeyError:
        record.exc_info = sys.exc_info()

    exception = _line(record)["exception"]
    assert exception.endswith("the reason'")
    assert len(exception) < 17_000


@pytest.mark.usefixtures("own_root")
def test_an_event_is_a_line_with_its_fields_and_the_level_of_the_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Numbers stay numbers; the module says it without a prefix."""
    configure_logging("dispatcher", "INFO")
    ref = RecordRef(topic="requests", partition=3, offset=7)
    headers = {"request_id": b"r-1", "traceparent": f"00-{_TRACE_ID}-00f067aa0ba902b7-01".encode()}
    log = EventLog("dispatcher.handler")
    log.event(LogEvent.RECORD_DEFECT, **place_of(ref), **traced(headers), error=KeyError("x"))

    line = json.loads(capsys.readouterr().out)
    del line["timestamp"]
    assert line == {
        "severity": "ERROR",
        "event": "record_defect",
        "topic": "requests",
        "partition": 3,
        "offset": 7,
        "request_id": "r-1",
        "trace_id": _TRACE_ID,
        "error": "KeyError('x')",
        "logger": "dispatcher.handler",
        "service.name": "dispatcher",
    }


def test_a_defect_has_its_traceback_and_an_error_has_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was reckoned with needs no stack."""
    log = EventLog("dispatcher.handler")
    log.event(LogEvent.RECORD_DEFECT, error=KeyError("x"))
    log.event(LogEvent.RECORD_DEFECT, defect=KeyError("y"))

    assert [bool(record.exc_info) for record in caplog.records] == [False, True]
    assert [str(record.msg) for record in caplog.records] == [
        "record_defect error=KeyError('x')",
        "record_defect error=KeyError('y')",
    ]


@pytest.mark.parametrize("headers", [{}, {"traceparent": b""}, {"traceparent": b"odd"}])
def test_a_record_without_a_trace_has_no_such_field(headers: dict[str, bytes]) -> None:
    """Most clients send none."""
    assert traced(headers) == {}


@pytest.mark.usefixtures("own_root")
def test_libraries_speak_from_warning_on_and_as_foreign(capsys: pytest.CaptureFixture[str]) -> None:
    """In the shape of all lines; what is below would be built on the hot path, also at DEBUG."""
    configure_logging("ingress", "DEBUG")
    logging.getLogger("aiokafka.conn").info("connected")
    logging.getLogger("aiokafka.conn").warning("broker %s away", "b-1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("odd", UserWarning, stacklevel=1)
    EventLog("ingress.app").event(LogEvent.LEDGER_TIME_UNREAD)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["foreign", "foreign", "ledger_time_unread"]
    assert lines[0]["text"] == "broker b-1 away"
    assert lines[0]["logger"] == "aiokafka.conn"
    assert "odd" in lines[1]["text"]


@pytest.mark.usefixtures("own_root")
def test_a_level_that_is_off_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither for us nor for libraries."""
    configure_logging("ingress", "ERROR")
    logging.getLogger("aiokafka.conn").warning("broker away")
    EventLog("ingress.app").event(LogEvent.STORE_SILENT)

    assert capsys.readouterr().out == ""


class _Unspeakable(Exception):
    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.usefixtures("own_root")
def test_an_error_that_has_no_text_does_no_harm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who logs stands in a boundary that must hold."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    configure_logging("ingress", "INFO")
    EventLog("ingress.app").event(LogEvent.STORE_SILENT, error=_Unspeakable())

    assert capsys.readouterr().out == ""

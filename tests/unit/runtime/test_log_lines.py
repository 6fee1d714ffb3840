"""Logs: lines that programs can read, bounded in size and in number, and evidence whole."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from schemas.runtime.process.log_lines import EVIDENCE, JsonLines, Throttle


def _record(logger: str, message: str = "broker away: %s", *args: object) -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, "", 0, message, args, None)


def _line(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonLines("ingress").format(record)
    assert text.isascii() or text.isprintable()
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_libraries_that_repeat_themselves_are_cut_short_within_a_second() -> None:
    """An outage of a broker must not fill the disk; the next second they may speak again."""
    now_s = [100.0]
    throttle = Throttle(lambda: now_s[0])
    first = [throttle.filter(_record("aiokafka.consumer.fetcher", str(n))) for n in range(500)]
    now_s[0] = 101.0
    second = [throttle.filter(_record("aiokafka.conn")) for _ in range(3)]

    assert sum(first) == 10
    assert second == [True] * 3


def test_a_statement_of_ours_that_repeats_itself_is_cut_short_and_says_how_often() -> None:
    """A client that makes us warn makes us warn ten times a second; other statements go on."""
    now_s = [100.0]
    throttle = Throttle(lambda: now_s[0])
    first = [throttle.filter(_record("ingress.gatekeeper.gate", "odd: %s", n)) for n in range(500)]
    other = throttle.filter(_record("ingress.gatekeeper.gate", "another: %s", 1))
    now_s[0] = 103.0
    later = [
        _record("ingress.gatekeeper.gate", "odd: %s", 1),
        _record("ingress.gatekeeper.gate", "odd: %s", 2),
    ]
    passed = [throttle.filter(record) for record in later]

    assert sum(first) == 10
    assert other
    assert passed == [True, True]
    assert _line(later[0])["left_out"] == 490
    assert "left_out" not in _line(later[1])


def test_evidence_is_never_cut() -> None:
    """An audit event that Kafka did not take exists nowhere else."""
    throttle = Throttle(lambda: 1.0)
    records = [_record("ingress.admin.log.audit_trail", "x" * 100_000) for _ in range(500)]
    for record in records:
        record.__dict__.update(EVIDENCE)

    assert all(map(throttle.filter, records))
    assert len(_line(records[0])["event"]) == 100_000


def test_a_line_is_bounded_and_can_always_be_written() -> None:
    """Whatever foreign text it quotes."""
    hostile = "\x1b[2J\n\r\x00\u202e\ud800" + "x" * 10_000_000
    line = _line(_record("ingress", "client said %s", hostile))

    assert len(line["event"]) < 17_000
    assert "\\ud800" in line["event"]


def test_a_traceback_keeps_its_end() -> None:
    """There it says what happened."""
    record = _record("ingress", "failed: %s", 1)
    try:
        os.environ["x" * 100_000 + "the reason"]
    except KeyError:
        record.exc_info = sys.exc_info()

    exception = _line(record)["exception"]
    assert exception.endswith("the reason'")
    assert len(exception) < 17_000

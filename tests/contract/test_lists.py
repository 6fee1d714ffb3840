"""The lists of errors, topics and metrics are complete, and nothing in them is unused."""

from __future__ import annotations

import ast
from dataclasses import fields
from typing import cast, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas import events, topics
from schemas.errors import ERRORS, ErrorCode
from schemas.gen_ai import LABELS
from schemas.metric_names import MetricName
from schemas.metrics import FROM_ZERO, METRICS
from schemas.runtime.process.telemetry import Metrics
from schemas.times import LedgerTimes, Times
from tests.support.calls_in_code import ROOT, method_calls, parsed_files

_OURS = ("tallygate_", "gen_ai_")
_METHOD_OF_KIND = {"counter": "count", "gauge": "set", "histogram": "observe"}


def test_every_error_code_has_a_specification() -> None:
    """And every specification a code."""
    assert set(ERRORS) == set(ErrorCode)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_is_consistent_with_its_status(code: ErrorCode) -> None:
    """A hint to come back only where a retry may help; no success among the errors."""
    spec = ERRORS[code]

    assert 400 <= spec.status < 600
    assert spec.title
    assert spec.may_retry or spec.retry_after_ms is None
    assert spec.may_retry or spec.status < 500
    assert not spec.may_retry or spec.status in {408, 409, 429} or spec.status >= 500


def test_every_error_code_is_used() -> None:
    """A code that nobody sends is a promise that nobody keeps."""
    used = {
        node.attr
        for path, tree in parsed_files()
        if path != "schemas/errors.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "ErrorCode"
    }

    assert {code.name for code in ErrorCode} - used == set()


def test_topic_names_are_unique() -> None:
    """One fact, one topic."""
    names = [topic.name for topic in topics.TOPICS]

    assert len(names) == len(set(names))


def test_every_topic_that_workers_read_has_dead_letters() -> None:
    """``worker.read(topic, ...)`` dead-letters what cannot be decoded; the topic for it exists."""
    by_name = {topic.name: topic for topic in topics.TOPICS}
    read = {
        getattr(topics, call.args[0].attr)
        for path, call, _ in method_calls("read")
        if path.endswith("/app.py") and isinstance(call.args[0], ast.Attribute)
    }

    assert read == {
        topics.REQUESTS,
        topics.BACKGROUND,
        topics.DISPATCH,
        topics.OUTCOMES,
        *topics.DEFERRED_DELAYS_MS,
    }
    assert read == {topic.name for topic in topics.TOPICS if topic.has_dead_letters}
    for name in read:
        letters = by_name[topics.dead_letters_of(name)]
        assert (letters.cleanup, letters.has_dead_letters) == ("delete", False)


def test_every_topic_holds_records_of_published_events() -> None:
    """Except for dead letters, which hold whatever bytes failed, and for results of backends."""
    names = {event.__name__ for event in get_args(events.Event)}

    for topic in topics.TOPICS:
        is_raw = topic.name.endswith(".dlq") or topic.name == topics.RESULTS
        assert topic.holds_events != is_raw
        assert is_raw or set(topic.records) <= names
    written = {record for topic in topics.TOPICS for record in topic.records}
    assert names <= written


def test_bytes_bound_only_what_may_leave_before_its_time() -> None:
    """Money, audit and configuration leave by time or key alone, whatever a broker's default is."""
    may_leave = {topics.REQUESTS, topics.BACKGROUND, topics.DISPATCH, *topics.DEFERRED_DELAYS_MS}
    may_leave |= {"inference.results.v1"}
    for topic in topics.TOPICS:
        settings = topic.settings()
        if topic.name in may_leave or topic.name.endswith(".dlq"):
            assert int(settings["retention.bytes"]) >= 4 * int(settings["segment.bytes"])
            assert int(settings["segment.bytes"]) > 2 * topics.MAX_RECORD_BYTES
        else:
            assert settings["retention.bytes"] == "-1"
            assert "segment.bytes" not in settings


@pytest.mark.parametrize("topic", topics.TOPICS, ids=lambda topic: topic.name)
def test_a_topic_keeps_its_records_for_a_time_or_by_key(topic: topics.Topic) -> None:
    """Kafka's own names of the settings; time is the broker's."""
    settings = topic.settings()

    assert (topic.retention_ms is None) == (topic.cleanup == "compact")
    assert ("retention.ms" in settings) == (topic.cleanup == "delete")
    assert settings["cleanup.policy"] == topic.cleanup
    assert settings["message.timestamp.type"] == "LogAppendTime"
    assert int(settings["max.message.bytes"]) == topics.MAX_RECORD_BYTES


def test_every_metric_that_is_used_is_listed_and_every_listed_one_is_used() -> None:
    """By its kind's method, with as many labels as the list says."""
    used = set()
    for path, call, method in method_calls("count", "total", "set", "look", "observe"):
        first = call.args[0] if call.args else None
        if not isinstance(first, ast.Constant) or not str(first.value).startswith(_OURS):
            continue
        spec = METRICS[cast("MetricName", first.value)]  # a name that is not listed fails here
        values = 1 if method == "count" else 2
        kind_of_call = {"total": "count", "look": "set"}.get(method, method)
        assert kind_of_call == _METHOD_OF_KIND[spec.kind], path
        # What is looked at brings its labels, and a starred argument stands for several; both are held at run time.
        if method != "look" and not any(isinstance(arg, ast.Starred) for arg in call.args):
            assert len(call.args) - values == len(spec.labels), path
        used.add(first.value)

    assert used == set(METRICS) == set(get_args(MetricName))


def test_what_is_shown_from_zero_is_a_series_of_a_counter() -> None:
    """Of a worker, with a value for each label."""
    assert set(FROM_ZERO) <= set(topics.READ_BY)
    for series in FROM_ZERO.values():
        for name, *labels in series:
            assert METRICS[name].kind == "counter"
            assert len(labels) == len(METRICS[name].labels)


def test_every_metric_can_be_exposed() -> None:
    """Prometheus accepts its name, kind, labels and buckets; the library's own are those of the process."""
    metrics = Metrics()
    for name, spec in METRICS.items():
        getattr(metrics, _METHOD_OF_KIND[spec.kind])(
            name, *([] if spec.kind == "counter" else [1.0]), *("x" for _ in spec.labels)
        )
    exposed = {
        family.name: family.type
        for family in text_string_to_metric_families(metrics.page().decode())
        if family.name.startswith(_OURS)
    }

    assert exposed == {name.removesuffix("_total"): spec.kind for name, spec in METRICS.items()}


def test_labels_never_carry_keys_users_or_ids() -> None:
    """They would grow without bound, and tell too much."""
    labels = {label for spec in METRICS.values() for label in spec.labels}

    assert labels == {
        "operation", "status", "code", "verdict", "limit_type", "scope", "source", "backend", "model", "kind", "topic",
        "shard", "percent", "stage", "state", "component", "bound", "host", "error_type", *LABELS,
    }  # fmt: skip


def test_every_time_that_is_listed_is_used() -> None:
    """By its name in Python, or by its constant in the functions of the ledger."""
    attributes = {
        node.attr
        for path, tree in parsed_files()
        if path != "schemas/times.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
    }
    lua = " ".join(path.read_text() for path in (ROOT / "schemas/runtime/ledger/lua").glob("*.lua"))
    in_lua = {each.name for each in fields(LedgerTimes) if each.name.upper() in lua}
    listed = {each.name for each in (*fields(Times), *fields(LedgerTimes))}

    assert listed - attributes - in_lua == set()

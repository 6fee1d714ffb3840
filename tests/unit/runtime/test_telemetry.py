"""Metrics as they are counted, bounded and shown."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from schemas.runtime.process.telemetry import OTHER, SERIES_MAX, VALUES_MAX, Labels, Metrics
from tests.support.samples import sample, samples

_OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
_REQUEST = "018bcfe5-6800-7000-8000-000000000001"
_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_counter_that_somebody_else_keeps_is_read_when_the_page_is() -> None:
    """Counting it costs an addition, nothing else."""
    metrics, sent = Metrics(), [0]
    metrics.total("tallygate_store_commands_total", lambda: sent[0], "ledger")
    metrics.total("tallygate_store_commands_total", lambda: 5, "bus")
    sent[0] = 7

    assert sample(metrics, "tallygate_store_commands_total", kind="ledger") == 7
    assert sample(metrics, "tallygate_store_commands_total", kind="bus") == 5


def test_what_is_looked_at_is_shown_as_it_is_then_and_no_longer() -> None:
    """A backend that is configured no more leaves the page."""
    metrics = Metrics()
    found: dict[Labels, float] = {("a",): 1.0, ("b",): 0.0}
    metrics.look("tallygate_backend_healthy", lambda: found)

    assert sample(metrics, "tallygate_backend_healthy", backend="a") == 1
    del found["a",]
    shown = {name for name in samples(metrics.page().decode()) if "backend_healthy" in name[0]}
    assert shown == {("tallygate_backend_healthy", frozenset({("backend", "b")}))}


def test_adding_nothing_shows_a_counter_at_zero() -> None:
    """What is first seen at 1 has not risen for Prometheus."""
    metrics = Metrics()
    metrics.count("tallygate_dead_letters_total", "t", by=0)

    assert samples(metrics.page().decode())[
        "tallygate_dead_letters_total", frozenset({("topic", "t")})
    ] == 0  # fmt: skip


@pytest.mark.parametrize(
    ("value", "first"), [(0.0005, "0.001"), (0.001, "0.001"), (0.0011, "0.002"), (1e9, "+Inf")]
)
def test_an_observation_counts_in_its_bucket_and_all_above(value: float, first: str) -> None:
    """A bound belongs to its bucket."""
    metrics = Metrics()
    metrics.observe("tallygate_stage_duration_seconds", value, "queue")

    buckets = [
        (float(dict(labels)["le"]), count)
        for (name, labels), count in samples(metrics.page().decode()).items()
        if name == "tallygate_stage_duration_seconds_bucket"
    ]
    assert {bound for bound, count in buckets if count} == {
        bound for bound, _ in buckets if bound >= float(first)
    }
    assert sample(metrics, "tallygate_stage_duration_seconds_sum", stage="queue") == value
    assert sample(metrics, "tallygate_stage_duration_seconds_count", stage="queue") == 1


def test_a_label_takes_so_many_values_and_then_says_other() -> None:
    """Whatever is counted, the page stays as small; nothing that was counted is lost."""
    metrics = Metrics()
    for number in range(3 * VALUES_MAX):
        metrics.count("tallygate_dead_letters_total", f"topic-{number}")

    kept = {dict(labels)["topic"]: n for (_, labels), n in samples(_ours(metrics)).items()}
    assert len(kept) == VALUES_MAX + 1
    assert kept[OTHER] == 2 * VALUES_MAX
    assert kept["topic-0"] == 1


def test_a_metric_has_so_many_series_and_then_one_more() -> None:
    """Labels that are bounded each may still be many together."""
    metrics = Metrics()
    for first in range(60):
        for second in range(60):
            metrics.set("tallygate_oldest_hold_seconds", 1.0, f"{first}")
            metrics.count("tallygate_requests_total", f"{first}", f"{second}", "")

    kept = [one for one in samples(_ours(metrics)) if one[0] == "tallygate_requests_total"]
    assert len(kept) == SERIES_MAX + 1
    assert sample(
        metrics, "tallygate_requests_total", operation=OTHER, status=OTHER, code=OTHER
    ) == (60 * 60 - SERIES_MAX)


def test_what_is_looked_at_is_bounded_too() -> None:
    metrics = Metrics()
    metrics.look("tallygate_component_healthy", lambda: {(f"c{n}",): 1.0 for n in range(5_000)})

    assert len(samples(_ours(metrics))) == VALUES_MAX + 1


def test_other_labels_than_those_of_the_list_are_a_defect() -> None:
    with pytest.raises(ValueError, match="operation"):
        Metrics().count("tallygate_requests_total", "chat.completions")


def test_an_exemplar_is_shown_only_where_open_metrics_is_asked_for() -> None:
    """With the request's id, and its trace where there is one; the text format has no place for it."""
    metrics = Metrics()
    trace = f"00-{_TRACE}-00f067aa0ba902b7-01".encode()
    metrics.observe("tallygate_request_duration_seconds", 0.3, "other", request_id="r0")
    metrics.observe(
        "tallygate_request_duration_seconds", 0.2, "other", request_id=_REQUEST, traceparent=trace
    )

    plain, plain_headers = metrics.page_for("text/plain")
    page, headers = metrics.page_for(_OPEN_METRICS)
    found = {
        dict(sample.labels)["le"]: sample.exemplar
        for family in text_string_to_metric_families(page.decode())  # type: ignore[no-untyped-call]  # not typed by its authors
        for sample in family.samples
        if sample.exemplar is not None
    }

    assert headers["content-type"].startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")
    assert plain_headers["content-type"].startswith("text/plain; version=0.0.4")
    assert _REQUEST.encode() not in plain
    assert set(found) == {"0.25", "0.5"}
    assert found["0.25"].labels == {"request_id": _REQUEST, "trace_id": _TRACE}
    assert found["0.25"].value == 0.2
    assert found["0.5"].labels == {"request_id": "r0"}


def test_the_process_says_what_it_has_of_the_machine() -> None:
    """Memory, processor time and open files, as the library names them."""
    names = {name for name, _ in samples(Metrics().page().decode())}

    assert {
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    } <= names


def _ours(metrics: Metrics) -> str:
    """The page without what the library adds."""
    lines = metrics.page().decode().splitlines(keepends=True)
    return "".join(line for line in lines if "tallygate_" in line)

"""Counts per request: read from metrics pages, labels summed, differences divided."""

from __future__ import annotations

from deploy.bench.counts import COUNTED, _sums, per_request, render_counts

_PAGE = """\
# HELP tallygate_store_commands_total Commands.
# TYPE tallygate_store_commands_total counter
tallygate_store_commands_total{kind="ledger"} 30.0
tallygate_store_commands_total{kind="bus"} 12.0
# HELP tallygate_unfinished_records Records.
# TYPE tallygate_unfinished_records gauge
tallygate_unfinished_records 7.0
"""


def test_a_page_gives_the_sums_over_labels_of_what_is_counted() -> None:
    """Gauges and other counters are left alone."""
    assert _sums(_PAGE) == {"store commands": 42.0}


def test_a_process_that_was_not_there_before_is_left_out() -> None:
    """Its counters began at its start, which is not the run's."""
    before, after = {"a": {"tasks": 10.0}}, {"a": {"tasks": 30.0}, "b": {"tasks": 5.0}}

    assert per_request(before, after, 10) == {"a": {"tasks": 2.0}}


def test_a_run_without_requests_has_no_counts() -> None:
    """Nothing can be divided by nothing."""
    assert per_request({"a": {"tasks": 1.0}}, {"a": {"tasks": 2.0}}, 0) == {}


def test_the_table_ends_with_the_sum_over_all_processes() -> None:
    """One column a count, and a dash where a process does not count it."""
    table = render_counts({"closed 1": {"a": {"tasks": 2.0}, "b": {"tasks": 0.5}}})
    last = table.splitlines()[-1].split()

    assert last[0] == "all"
    assert last[1 + list(COUNTED).index("tasks")] == "2.50"
    assert "-" in table.splitlines()[2]

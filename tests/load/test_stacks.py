"""Stack samples are summed up by function, package, thread and own caller."""

from __future__ import annotations

from tests.load.stacks import package_of, read_stacks, render_profile

_RAW = """\
thread (0x7F): MainThread;main (ingress/__main__.py:25);Edge.__call__ (ingress/http/edge.py:73);dumps (json/__init__.py:9) 30
thread (0x7F): MainThread;main (ingress/__main__.py:25);Edge.__call__ (ingress/http/edge.py:80) 10

thread (0x8A): consumer;_run (mode/threads.py:5);poll (selectors.py:11) 60
"""


def test_samples_count_where_they_were_and_for_own_callers() -> None:
    """Lines of one function are one; a frame counts once a sample for what it called."""
    profile = read_stacks(_RAW.splitlines())

    assert profile.samples == 100
    assert profile.by_function["Edge.__call__ (ingress/http/edge.py)"] == 10
    assert profile.own_total == {"Edge.__call__ (ingress/http/edge.py)": 40}
    assert profile.by_package == {
        "json": 30,
        "ingress/http": 10,
        "the interpreter and single modules": 60,
    }
    assert profile.by_thread == {"MainThread": 40, "consumer": 60}


def test_own_modules_are_told_apart_by_folder() -> None:
    """Others are their package."""
    assert package_of("schemas/runtime/kafka/inbox.py") == "schemas/runtime/kafka"
    assert package_of("aiokafka/protocol/struct.py") == "aiokafka"


def test_the_page_has_shares_of_the_process() -> None:
    """A table of three columns, filled up with empty cells."""
    page = render_profile("ingress", read_stacks(_RAW.splitlines()), most=3).splitlines()

    assert page[1] == "100 samples; threads: consumer 60.0%, MainThread 40.0%."
    assert page[5].startswith("| 60.0% `poll (selectors.py)` | 60.0% `the interpreter")
    assert page[7] == "| 10.0% `Edge.__call__ (ingress/http/edge.py)` | 10.0% `ingress/http` |  |"

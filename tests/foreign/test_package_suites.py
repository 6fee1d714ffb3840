"""How suites of packages are judged: a failing test needs a stated reason, and a reason a failing test."""

from __future__ import annotations

from pathlib import Path

from tests.foreign.package_suites import Case, cases_of, judged
from tests.foreign.suite_reasons import Reason

_REASON = Reason("some", "it is so", r"no such \w+", "TestFiles")


def test_what_fails_is_counted_under_its_reason() -> None:
    """And is no failure of the run."""
    cases = [
        Case("TestFiles::test_a", "failed", "404 no such file"),
        Case("TestFiles::test_b", "passed", ""),
    ]

    assert judged("some", cases, [_REASON]) == (
        ["some: 1 passed, 1 failed, 0 skipped", "  1 it is so"],
        0,
    )


def test_what_fails_without_a_reason_fails_the_run() -> None:
    """Also where another test says the same, and where another suite has the reason."""
    cases = [
        Case("TestFiles::test_a", "failed", "no such file"),
        Case("TestChat::test_a", "failed", "no such file"),
    ]

    assert judged("some", cases, [_REASON])[1] == 1
    assert judged("other", cases, [_REASON])[1] == 2


def test_a_reason_that_no_test_needs_fails_the_run() -> None:
    """So the list never says more than is so."""
    lines, wrong = judged("some", [Case("TestFiles::test_a", "passed", "")], [_REASON])

    assert (lines[-1], wrong) == ("  NEEDED NO MORE: it is so", 1)


def test_a_report_is_read_as_it_stands(tmp_path: Path) -> None:
    """Errors of fixtures are failures; expected failures are skipped."""
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="a.T" name="p"/>'
        '<testcase classname="a.T" name="f"><failure message="m">t</failure></testcase>'
        '<testcase classname="a.T" name="e"><error message="m"/></testcase>'
        '<testcase classname="a.T" name="s"><skipped/></testcase></testsuite></testsuites>'
    )

    assert [(case.name, case.verdict) for case in cases_of(report)] == [
        ("T::p", "passed"), ("T::f", "failed"), ("T::e", "failed"), ("T::s", "skipped"),
    ]  # fmt: skip

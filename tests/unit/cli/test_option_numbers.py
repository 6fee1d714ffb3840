"""Numbers of options are read as people write them, and nothing else is a number (faults.md D4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.cli.options import decimal, duration, moment_ms, positive, rate, whole
from tests.unit.cli.scripted_admin import Gateway, run

ODD = [
    "",
    " 1",
    "1 ",
    "nan",
    "inf",
    "-inf",
    "-0",
    "-1",
    "1e309",
    "1e5",
    "1_000",
    "0x10",
    "٣",
    "1.",
    ".5",
    "9" * 17,
]


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("parse", [whole, positive, decimal, rate])
def test_what_is_no_plain_number_is_none(parse: Callable[[str], float], text: str) -> None:
    """Python alone takes half of them."""
    with pytest.raises(ValueError, match="is not"):
        parse(text)


def test_plain_numbers_are_read() -> None:
    """With a fraction where one makes sense."""
    assert (whole("0"), positive("17"), decimal("0"), rate("2.5")) == (0, 17, 0.0, 2.5)


@pytest.mark.parametrize("text", ["0", "0.0"])
def test_a_rate_is_above_nothing(text: str) -> None:
    """The gateway would refuse it anyway, with less to go on."""
    with pytest.raises(ValueError, match="above 0"):
        rate(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-0", "1e309", "1_000"])
def test_an_odd_rate_is_an_error_of_three_lines(text: str) -> None:
    """What, why, and how to mend it; nothing was asked of the gateway."""
    gateway = Gateway({})

    code, out, story = run(gateway, "keys", "create", "--org", "a", f"--rps={text}")

    assert (code, out, gateway.asked) == (2, "", [])
    assert [line.split(":")[0].strip() for line in story.splitlines()] == ["error", "why", "fix"]
    assert f"'--rps': {text} is not" in story


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1_800),
        ("2h", 7_200),
        ("1d", 86_400),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: float) -> None:
    """A whole number of one unit."""
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1h30m", "90", "h", "-1h", "1.5h", "1h ", "30m1h", "1w", "٣h"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number alone could be meant as anything."""
    with pytest.raises(ValueError, match="is not a time"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000_000),
        ("2023-11-14", 1_699_920_000_000),
    ],
)
def test_a_time_is_utc_where_it_names_no_offset(text: str, at_ms: int) -> None:
    """As in the options of reports."""
    assert moment_ms(text) == at_ms


@pytest.mark.parametrize("text", ["", "tomorrow", "1700000000", "22:00", "2023-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(ValueError, match="RFC 3339"):
        moment_ms(text)

"""A tallygate.yaml means what its author wrote, or is refused with the reason (faults.md D4)."""

from __future__ import annotations

import pytest

from deploy.desired_state.document import parse_desired_state


@pytest.mark.parametrize(
    "written",
    ["no", "No", "off", "y", "true", "null", "0x1F", "010", "0o10", "12:30", "1_000", "1.0", "2024",
     "1e309", "2024-01-01", "2024-01-01T00:00:00Z", "123456789012345678901234567890"],
)  # fmt: skip
def test_an_id_is_what_is_written(written: str) -> None:
    """YAML 1.1 would make false, 31, 8, 750, a date or infinity of it."""
    state = parse_desired_state(f"orgs:\n  {written}: {{}}\nprojects: {{p: {{org: {written}x}}}}")

    assert state.problems == ()
    assert [entity.id for entity in state.entities] == [written, "p"]
    assert state.entities[1].body == {"org": f"{written}x"}


@pytest.mark.parametrize("written", ["~", ".inf", ".nan", "-0", "-1", "''"])
def test_what_cannot_be_an_id_is_refused_as_written(written: str) -> None:
    """The place names what stands there."""
    (problem,) = parse_desired_state(f"orgs:\n  {written}: {{}}").problems

    assert problem.path == f"orgs.{written.strip(chr(39))} (its id)"


@pytest.mark.parametrize("written", ["010", "0x10", "1_000", "12:30", "yes", ".inf", ".nan", "+5"])
def test_a_number_that_json_has_not_is_refused_with_its_text(written: str) -> None:
    """It would have been another number than meant."""
    (problem,) = parse_desired_state(f"orgs: {{a: {{limits: {{burst: {written}}}}}}}").problems

    assert problem.path == "orgs.a.limits.burst"
    assert problem.what.endswith(f"got `str` {written!r}; numbers stand as in JSON")


@pytest.mark.parametrize("written", ["1e309", "-0", "-1", "0"])
def test_a_number_out_of_range_is_refused(written: str) -> None:
    """Infinity and nothing are no rates."""
    text = f"orgs: {{a: {{limits: {{requests_per_s: {written}}}}}}}"

    (problem,) = parse_desired_state(text).problems

    assert problem.path == "orgs.a.limits.requests_per_s"


@pytest.mark.parametrize("written", ["no", "2024-01-01", "12:30", "0x1F"])
def test_a_text_is_what_is_written(written: str) -> None:
    """Also where YAML 1.1 has a word for something else."""
    state = parse_desired_state(f"orgs: {{a: {{name: {written}}}}}")

    assert state.problems == ()
    assert state.entities[0].body == {"name": written}


def test_an_amount_without_quotes_says_how_it_is_written() -> None:
    """A float would not be the amount."""
    text = "orgs: {a: {limits: {budgets: [{usd: 12.50, period: month}]}}}"

    (problem,) = parse_desired_state(text).problems

    assert str(problem).endswith("Expected `str`, got `float` 12.5; write it in quotes")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("orgs:\n  no: {}\n  'no': {name: x}", "no"),
        ("orgs:\n  a: {}\n  a: {}", "a"),
        ("orgs: {}\norgs: {a: {}}", "orgs"),
        ("orgs: {a: {limits: {burst: 1, burst: 2}}}", "burst"),
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str, key: str) -> None:
    """However it is quoted; YAML would keep the last one."""
    (problem,) = parse_desired_state(text).problems

    assert f"'{key}' stands here twice" in problem.what


def test_ids_that_yaml_takes_for_one_number_are_two() -> None:
    """010 was 8."""
    state = parse_desired_state("orgs:\n  010: {}\n  8: {}")

    assert [entity.id for entity in state.entities] == ["010", "8"]


def test_what_is_merged_gives_way_to_what_is_written() -> None:
    """Anchors stay of use."""
    text = "orgs:\n  a: &x {name: n, limits: {burst: 3}}\n  b:\n    <<: *x\n    name: o"

    assert parse_desired_state(text).entities[1].body == {"name": "o", "limits": {"burst": 3}}


def test_a_file_that_is_too_deep_is_a_problem_and_no_crash() -> None:
    """Of three lines, like every other."""
    (problem,) = parse_desired_state("orgs: " + "[" * 3_000).problems

    assert problem.path == "(file)"


@pytest.mark.parametrize("text", ["orgs: {? [a] : {}}", "orgs: {? {a: b} : {}}"])
def test_a_key_that_is_no_text_is_refused(text: str) -> None:
    """It could be no id."""
    (problem,) = parse_desired_state(text).problems

    assert "a key is no text" in problem.what

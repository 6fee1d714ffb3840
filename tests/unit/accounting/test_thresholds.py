"""What is compared with what before anything is told of a limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.thresholds import (
    BalanceName,
    LimitInForce,
    Watched,
    balance_name,
    limit_in_force,
    threshold_event,
)
from schemas.config_state import Snapshot
from schemas.entities import Budget, Key, Limits, Organization, Project, Quota
from schemas.thresholds import read_percents

DEFAULT = (50, 80, 100)


def config(offset: int = 1, **limits: Limits) -> Snapshot:
    """An organization, a project and a key with these limits."""
    return Snapshot(
        offset=offset,
        organizations={
            "acme": Organization(limits=limits.get("org", Limits())),
            "b": Organization(),
        },
        projects={"a:b/c": Project(org="acme", limits=limits.get("project", Limits()))},
        keys={
            "k": Key(
                org="acme",
                hash="0" * 64,
                display="",
                created_at_ms=0,
                limits=limits.get("key", Limits()),
            )
        },
    )


@pytest.mark.parametrize(
    ("suffix", "name", "kind"),
    [
        ("b:org/nano_usd:2026-11", BalanceName("org", None, "nano_usd", "2026-11"), "month"),
        ("b:key/k/tokens:2026-11-21", BalanceName("key", "k", "tokens", "2026-11-21"), "day"),
        (
            "b:project/a:b/c/nano_usd:total",
            BalanceName("project", "a:b/c", "nano_usd", "total"),
            "total",
        ),
    ],
)
def test_a_balance_says_whose_it_is(suffix: str, name: BalanceName, kind: str) -> None:
    """Also where the id has the signs that part the name."""
    assert balance_name(suffix) == name
    assert balance_name(suffix).kind == kind


@pytest.mark.parametrize(
    "suffix", ["", "b:", "b:x", "b:team/x/nano_usd:2026-11", "b:org/nano_usd:2026"]
)
def test_a_balance_that_nothing_here_names_has_no_limit(suffix: str) -> None:
    """A later version may have other ones."""
    stated = config(org=Limits(budgets=(Budget("1", "month"),)))

    assert limit_in_force(balance_name(suffix), "acme", stated, DEFAULT) is None


def test_the_lower_of_two_limits_on_one_balance_is_compared() -> None:
    """As admission does; the other periods and units are other balances."""
    budgets = (Budget("2", "month"), Budget("1.5", "month"), Budget("0.1", "day"))
    stated = config(org=Limits(budgets=budgets, quotas=(Quota(7, "tokens", "month"),)))

    found = limit_in_force(balance_name("b:org/nano_usd:2026-11"), "acme", stated, DEFAULT)

    assert found == LimitInForce("org:budget:month", 1_500_000_000, DEFAULT)


@pytest.mark.parametrize(
    ("org", "key", "expected"),
    [
        (None, None, DEFAULT),
        ((90,), None, (90,)),
        ((90,), (10, 20), (10, 20)),
        ((90,), (), None),
        ((), None, None),
    ],
)
def test_percentages_are_the_limits_own_then_the_organizations_then_the_installations(
    org: tuple[int, ...] | None, key: tuple[int, ...] | None, expected: tuple[int, ...] | None
) -> None:
    """An empty list says that nothing is to be told."""
    quota = (Quota(10, "requests", "day"),)
    stated = config(
        org=Limits(thresholds_percent=org), key=Limits(quotas=quota, thresholds_percent=key)
    )

    found = limit_in_force(balance_name("b:key/k/requests:2026-11-21"), "acme", stated, DEFAULT)

    assert (found.percents if found else None) == expected


def test_an_entity_of_another_organization_lends_no_limit() -> None:
    """Whatever the suffix says."""
    stated = config(key=Limits(budgets=(Budget("1", "total"),)))

    assert limit_in_force(balance_name("b:key/k/nano_usd:total"), "b", stated, DEFAULT) is None


@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 1_000), min_size=1, max_size=5),
    st.integers(-100, 10**7),
)
def test_what_is_due_is_what_is_reached(amount: int, percents: list[int], total: int) -> None:
    """The number that is compared for each outcome says the same as the percentages one by one."""
    limit = LimitInForce("x", amount, tuple(percents))
    next_at = limit.next_at(())
    assert next_at is not None

    assert (total >= next_at) == any(limit.reached(total))
    assert set(limit.reached(total)) == {
        p for p in percents if total > 0 and total >= p * amount / 100
    }


def test_what_was_told_is_not_told_again_though_the_total_goes_down_and_up() -> None:
    """A correction takes back what an estimate booked; the next request books more."""
    watched = Watched(balance_name("b:org/nano_usd:2026-11"), total=600_000_000)
    watched.follow("acme", config(org=Limits(budgets=(Budget("1", "month"),))), DEFAULT)
    assert watched.untold() == [50]
    watched.remember([(50, 1_000_000_000)])

    watched.total = 100_000_000
    assert not watched.is_due
    watched.total = 790_000_000
    assert not watched.is_due
    watched.total = 1_000_000_000
    assert watched.untold() == [80, 100]


def test_a_limit_of_another_amount_is_another_limit() -> None:
    """Who raises it is warned again on the way to the new one; who lowers it below what was spent hears that at once."""
    watched = Watched(balance_name("b:org/nano_usd:2026-11"), total=1_000_000_000)
    ids = set()
    for offset, usd in enumerate(("1", "2", "1", "0.5")):
        watched.follow("acme", config(offset, org=Limits(budgets=(Budget(usd, "month"),))), DEFAULT)
        told = watched.untold()
        ids |= {threshold_event("acme", "b:x", watched, p, 7).audit_id for p in told}
        assert watched.limit is not None
        watched.remember((p, watched.limit.amount) for p in told)

    amounts = [(1_000_000_000, (50, 80, 100)), (2_000_000_000, (50,)), (500_000_000, (50, 80, 100))]
    assert ids == {f"threshold:acme|b:x:{amount}:{p}" for amount, told in amounts for p in told}


@pytest.mark.parametrize(("text", "read"), [("", ()), ("100, 50", (50, 100)), ("1000", (1000,))])
def test_percentages_are_read_in_order(text: str, read: tuple[int, ...]) -> None:
    """With commas between them."""
    assert read_percents(text) == read


@pytest.mark.parametrize(
    "text", ["0", "1001", "5.5", "-1", "50;80", ",", "1,2,3,4,5,6,7,8,9,10,11"]
)
def test_what_is_no_percentage_is_refused(text: str) -> None:
    """With a sentence of what would be one."""
    with pytest.raises(ValueError, match="percentages"):
        read_percents(text)

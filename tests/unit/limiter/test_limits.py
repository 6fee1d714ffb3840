"""Terms: which limits a request meets, and what it holds on each."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter_worker.admitted_terms import decoded_terms
from limiter_worker.limits import AdmissionRequest, kind_of_limit, terms_of
from schemas.config_state import Snapshot, prices_of
from schemas.entities import Budget, Limits, Model, Quota, Target, User
from schemas.events import Reach, RequestAccepted
from schemas.ledger.answers import Admitted
from schemas.ledger.documents import Decline
from schemas.pricing.cost import cost
from schemas.pricing.counts import TokenCounts
from schemas.pricing.entries import Price, PriceStep, TierPrice
from schemas.stated_limits import Defaults
from tests.support.events import NOW_MS, accepted, as_read, configuration, priced_model

_DEFAULT = Defaults(requests_per_s=100, burst=200, in_flight=256)
_UNPRICED = Model(backends=(Target(backend="b1"),))
_LIMIT = Limits(concurrency=1, tokens_per_min=600, budgets=(Budget("5", "day"),))


def _terms(config: Snapshot, request: RequestAccepted | None = None) -> AdmissionRequest:
    terms = terms_of(as_read(request or accepted()), config, _DEFAULT, NOW_MS, "info")
    assert isinstance(terms, AdmissionRequest)
    return terms


def _limits_of(terms: AdmissionRequest) -> set[str]:
    """The ids that a refusal may name."""
    admit = terms.admit
    ids = {rate.id for rate in admit.rates} | {lease.id for lease in admit.leases}
    return ids | {balance.id for balance in admit.balances if balance.limit is not None}


_PRICES_USD = st.integers(0, 10_000_000).map(lambda micro: f"{micro / 1_000_000:.6f}")


@given(st.data(), _PRICES_USD, _PRICES_USD, st.none() | _PRICES_USD)
def test_the_hold_is_never_below_the_cost_of_any_use_within_the_bounds(
    data: st.DataObject, input_usd: str, output_usd: str, cached_usd: str | None
) -> None:
    """Whatever share of the input was cached, and even if caching costs extra."""
    model = Model(
        backends=(Target(backend="b1"),),
        input_usd_per_mtok=input_usd,
        output_usd_per_mtok=output_usd,
        cached_input_usd_per_mtok=cached_usd,
    )
    request = accepted(
        input_tokens_bound=data.draw(st.integers(0, 10**6)),
        output_tokens_bound=data.draw(st.integers(0, 10**5)),
    )
    config = configuration(model=model)
    price, terms = config.prices["echo"].at(NOW_MS), _terms(config, request)
    held = {balance.unit: balance.amount for balance in terms.admit.balances}
    input_tokens = data.draw(st.integers(0, request.input_tokens_bound))
    used = TokenCounts(
        input_tokens,
        data.draw(st.integers(0, request.output_tokens_bound)),
        data.draw(st.integers(0, input_tokens)),
    )

    assert price == prices_of("echo", model, 4).at(NOW_MS)
    assert price is not None
    assert cost(price, used) <= held["nano_usd"]
    assert used.input_tokens + used.output_tokens <= held["tokens"]


def test_every_scope_contributes_its_limits() -> None:
    """Each under its own name and its own key, so that none shadows another."""
    terms = _terms(configuration(org=_LIMIT, project=_LIMIT, key=_LIMIT, user=_LIMIT))

    for scope in ("org", "project", "key", "user"):
        named = {f"{scope}:tokens_per_min", f"{scope}:concurrency", f"{scope}:budget:day"}
        assert named <= _limits_of(terms)
    admit = terms.admit
    keys = [r.key for r in admit.rates] + [c.key for c in admit.leases]
    keys += [b.key for b in admit.balances]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    "request_",
    [accepted(project=None, user=None), accepted(project="gone", user="gone")],
    ids=["it has none", "they are gone"],
)
def test_absent_project_and_user_contribute_nothing(request_: RequestAccepted) -> None:
    """Their limits are those of others."""
    terms = _terms(configuration(project=_LIMIT, user=_LIMIT), request_)

    assert {name.split(":")[0] for name in _limits_of(terms)} == {"org", "key"}


def test_organizations_and_keys_without_a_rate_get_the_default() -> None:
    """Projects and users do not."""
    rates = {
        r.id: (r.cost, r.burst, r.rate_milli_per_s) for r in _terms(configuration()).admit.rates
    }

    assert rates == {
        "org:requests_per_s": (1, 200, 100_000),
        "key:requests_per_s": (1, 200, 100_000),
    }


@pytest.mark.parametrize(
    ("limits", "burst", "rate_milli_per_s"),
    [
        (Limits(requests_per_s=5), 5, 5_000),
        (Limits(requests_per_s=5, burst=50), 50, 5_000),
        (Limits(burst=50), 50, 100_000),
        (Limits(requests_per_s=0.25), 1, 250),
        (Limits(requests_per_s=0.0001), 1, 1),
    ],
    ids=["rate", "rate and burst", "burst only", "slow", "slower than a thousandth"],
)
def test_a_rate_becomes_a_bucket(limits: Limits, burst: int, rate_milli_per_s: int) -> None:
    """A bucket holds at least one request and always refills."""
    rate = next(
        r for r in _terms(configuration(key=limits)).admit.rates if r.id == "key:requests_per_s"
    )

    assert (rate.burst, rate.rate_milli_per_s) == (burst, rate_milli_per_s)


def test_a_token_rate_is_charged_with_both_bounds() -> None:
    """A minute's tokens are the bucket's depth."""
    rate = next(
        r
        for r in _terms(configuration(org=Limits(tokens_per_min=60_000))).admit.rates
        if r.id == "org:tokens_per_min"
    )

    assert (rate.cost, rate.burst, rate.rate_milli_per_s) == (1_500, 60_000, 1_000_000)


def test_cost_and_tokens_of_an_organization_are_always_tracked() -> None:
    """Without a limit, so that ledger and log always have sums to compare."""
    balances = _terms(configuration()).admit.balances

    assert {(b.key, b.amount, b.limit) for b in balances} == {
        ("b:org/tokens:2023-11", 1_500, None),
        ("b:org/nano_usd:2023-11", 5_000_000, None),
    }


def test_where_two_limits_meet_the_lower_holds() -> None:
    """Also where one of them is the tracked sum."""
    twice = Limits(
        budgets=(Budget("7", "month"), Budget("5", "month"), Budget("6", "month")),
        quotas=(Quota(9, "requests", "day"),),
    )
    terms = _terms(configuration(org=twice))
    limits = {b.key: (b.id, b.limit, b.amount) for b in terms.admit.balances if b.limit is not None}

    assert limits == {
        "b:org/nano_usd:2023-11": ("org:budget:month", 5_000_000_000, 5_000_000),
        "b:org/requests:2023-11-14": ("org:quota:requests:day", 9, 1),
    }


def test_a_total_budget_has_no_end() -> None:
    """It never rolls over."""
    terms = _terms(configuration(user=Limits(budgets=(Budget("5", "total"),))))
    balance = next(b for b in terms.admit.balances if b.id == "user:budget:total")

    assert (balance.key, balance.start_ms, balance.end_ms) == ("b:user/ada/nano_usd:total", 0, None)


@pytest.mark.parametrize(
    ("limits", "answer"),
    [
        ({}, False),
        ({"org": Limits(budgets=(Budget("5", "day"),))}, True),
        ({"user": Limits(budgets=(Budget("5", "total"),))}, True),
        ({"org": Limits(quotas=(Quota(9, "tokens", "day"),))}, False),
    ],
    ids=["no budget", "budget of the organization", "budget of the user", "quota only"],
)
def test_a_model_without_a_price_is_refused_where_a_budget_applies(
    limits: dict[str, Limits], answer: bool
) -> None:
    """Elsewhere it is admitted, and its cost is not held."""
    config = configuration(model=_UNPRICED, **limits)
    terms = terms_of(as_read(accepted()), config, _DEFAULT, NOW_MS, "")

    if answer:
        assert terms == Decline(why="unpriced")
    else:
        assert isinstance(terms, AdmissionRequest)
        assert "nano_usd" not in {balance.unit for balance in terms.admit.balances}


@pytest.mark.parametrize(
    "gone", [{"model": "other"}, {"org": "other"}], ids=["model", "organization"]
)
def test_without_model_or_organization_there_are_no_terms(gone: dict[str, str]) -> None:
    """They were removed after ingress accepted the request."""
    terms = terms_of(as_read(accepted(**gone)), configuration(), _DEFAULT, NOW_MS, "")

    assert terms == Decline(why="gone")


def test_the_request_is_named_to_the_ledger() -> None:
    """Identity, deadline and what the reaper needs."""
    admit = _terms(configuration(model=priced_model())).admit

    assert (admit.org, admit.req, admit.info) == ("acme", accepted().request_id, "info")
    assert admit.incarnation_ms == accepted().produce_by_ms
    assert (admit.accepted_ms, admit.deadline_ms) == (NOW_MS, NOW_MS + 60_000)


def test_what_would_be_agreed_to_is_named_to_the_ledger() -> None:
    """Price, holds and configuration, as they stand in the admission; few bytes of it."""
    terms = _terms(configuration(model=priced_model(), org=_LIMIT, key=_LIMIT))

    assert decoded_terms(terms.admit.terms) == terms.agreed
    assert len(terms.admit.terms) < 1_000


def _listed(*prices: Price) -> Model:
    return Model(backends=(Target(backend="b1"),), prices=prices)


_CHEAP = Price(input_usd_per_mtok="1", output_usd_per_mtok="1")
_LATER = Price(from_="2023-11-15", input_usd_per_mtok="2", output_usd_per_mtok="2")


def test_the_price_in_force_at_acceptance_is_pinned() -> None:
    """However late it is decided; a future entry takes effect by itself."""
    config = configuration(model=_listed(_CHEAP, _LATER))
    held = []
    for at_ms in (NOW_MS, NOW_MS + 86_400_000):
        terms = _terms(config, accepted(accepted_at_ms=at_ms))
        assert terms.agreed is not None
        assert terms.agreed.price is not None
        held.append((terms.agreed.price.version, terms.admit.balances[-1].amount))

    assert held == [("echo@4/-", 1_500_000), ("echo@4/2023-11-15", 3_000_000)]


def test_a_price_with_all_its_dimensions_survives_the_ledger() -> None:
    """A request that is met again is admitted at the price that was pinned."""
    priced = msgspec.structs.replace(
        _CHEAP,
        steps=(PriceStep(above_input_tokens=10, input_usd_per_mtok="2"),),
        tiers={"priority": TierPrice(multiplier="2")},
        tool_call_usd={"web_search": "0.01"},
    )
    config = configuration(model=_listed(priced))
    terms = decoded_terms(_terms(config).admit.terms)
    answer = Admitted()

    assert terms.event(as_read(accepted()), answer).price == config.prices["echo"].at(NOW_MS)


def test_terms_of_a_version_before_are_still_read() -> None:
    """A flat price had no place for details."""
    terms = _terms(configuration())
    assert terms.agreed is not None
    flat = terms.agreed.encoded().replace("6000000000,null]", "6000000000]")

    assert decoded_terms(flat) == terms.agreed


@pytest.mark.parametrize("budgets", [(), (Budget("5", "day"),)], ids=["no budget", "a budget"])
def test_a_request_that_may_use_what_is_not_priced_has_no_price(
    budgets: tuple[Budget, ...],
) -> None:
    """Nobody could tell its cost: null where no budget applies, else it is refused."""
    request = accepted(reach=Reach(audio_output=True))
    config = configuration(org=Limits(budgets=budgets))
    terms = terms_of(as_read(request), config, _DEFAULT, NOW_MS, "info")

    if budgets:
        assert terms == Decline(why="unpriced")
    else:
        assert isinstance(terms, AdmissionRequest)
        assert terms.agreed is not None
        assert terms.agreed.price is None


def test_the_id_of_a_limit_tells_its_type_and_unit() -> None:
    """So that a refusal is told alike when its limit was removed; the number is the ledger's."""
    limits = Limits(
        tokens_per_min=600,
        concurrency=600,
        budgets=(Budget("5", "day"), Budget("5", "total")),
        quotas=(Quota(600, "tokens", "month"), Quota(600, "requests", "day")),
    )
    stated = _limits_of(_terms(configuration(org=limits)))

    assert {limit_id: kind_of_limit(limit_id) for limit_id in stated} == {
        "org:requests_per_s": ("rate_limit", "requests"),
        "org:tokens_per_min": ("rate_limit", "tokens"),
        "key:requests_per_s": ("rate_limit", "requests"),
        "org:concurrency": ("rate_limit", "requests"),
        "org:budget:day": ("budget", "nano_usd"),
        "org:budget:total": ("budget", "nano_usd"),
        "org:quota:tokens:month": ("quota", "tokens"),
        "org:quota:requests:day": ("quota", "requests"),
    }


def test_an_organization_without_a_concurrency_gets_the_default_lease() -> None:
    """Of its jobs fewer may run at once, and they wait for what nobody stated."""
    interactive = _terms(configuration()).admit
    job = _terms(configuration(), accepted(background=True)).admit

    assert [(lease.id, lease.limit) for lease in interactive.leases] == [("org:in_flight", 256)]
    assert [(lease.id, lease.limit) for lease in job.leases] == [("org:in_flight", 192)]
    assert interactive.waits_for == ()
    assert set(job.waits_for) == {"org:in_flight", "org:requests_per_s", "key:requests_per_s"}


def test_a_concurrency_that_is_stated_takes_the_place_of_the_default() -> None:
    """Also for jobs, which it refuses."""
    job = _terms(
        configuration(
            org=Limits(concurrency=1_000, requests_per_s=5), key=Limits(requests_per_s=5)
        ),
        accepted(background=True),
    ).admit

    assert [(lease.id, lease.limit) for lease in job.leases] == [("org:concurrency", 1_000)]
    assert job.waits_for == ()


def test_who_is_vouched_for_meets_the_limits_of_organization_project_and_user() -> None:
    """There is no key to bear any; one default rate is left, that of the organization."""
    config = configuration(org=_LIMIT, project=_LIMIT, user=_LIMIT)

    ids = _limits_of(_terms(config, accepted(key_id="oidc:corp")))

    assert {each.partition(":")[0] for each in ids} == {"org", "project", "user"}
    assert "key:requests_per_s" not in ids
    assert "org:requests_per_s" in ids


def test_a_user_of_the_same_name_elsewhere_lends_no_limits() -> None:
    """What somebody outside calls a user here may be the id of another organization's user."""
    config = configuration(user=_LIMIT)
    elsewhere = Snapshot(
        **{name: getattr(config, name) for name in Snapshot.__dataclass_fields__}
        | {"users": {"ada": User(org="globex", limits=_LIMIT)}}
    )

    ids = _limits_of(_terms(elsewhere, accepted(key_id="oidc:corp")))

    assert not any(each.startswith("user:") for each in ids)

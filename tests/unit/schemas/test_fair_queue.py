"""The fair queue: who gets through, in which order, and at what cost to whom."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from schemas.fair_queue import FairQueue

_PUSHES = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 20_000)), min_size=1, max_size=60
)


def test_an_organization_alone_is_served_in_order_of_arrival() -> None:
    """Fairness costs nothing where there is nobody to be fair to."""
    queue: FairQueue[int] = FairQueue()
    for number in range(5):
        queue.push("a", 100, number)

    assert [queue.pop() for _ in range(6)] == [0, 1, 2, 3, 4, None]


def test_a_loud_organization_does_not_delay_a_quiet_one() -> None:
    """The newcomer waits for one turn, not for the hundred that came before."""
    queue: FairQueue[str] = FairQueue(quantum_tokens=1_000)
    for _ in range(100):
        queue.push("loud", 1_000, "loud")
    queue.pop()
    queue.push("quiet", 1_000, "quiet")

    assert "quiet" in [queue.pop() for _ in range(2)]


def test_large_requests_count_for_what_they_are() -> None:
    """Tokens are shared alike, so ten small requests pass for one that is ten times as large."""
    queue: FairQueue[str] = FairQueue(quantum_tokens=1_000)
    for _ in range(100):
        queue.push("large", 10_000, "large")
        queue.push("small", 1_000, "small")

    served = Counter(queue.pop() for _ in range(88))

    assert served == {"large": 8, "small": 80}


def test_an_idle_organization_saves_nothing_up() -> None:
    """Whoever had nothing to send begins with an empty purse, however long it was away."""
    queue: FairQueue[str] = FairQueue(quantum_tokens=10_000)
    queue.push("a", 1, "a")
    assert queue.pop() == "a"
    for _ in range(10):
        queue.push("a", 10_000, "a")
        queue.push("b", 10_000, "b")

    assert [queue.pop() for _ in range(4)] in (["a", "b", "a", "b"], ["b", "a", "b", "a"])


def test_what_is_too_old_is_taken_out_from_the_front_of_every_queue() -> None:
    """What came later stays, also behind something older of another organization."""
    queue: FairQueue[int] = FairQueue()
    for org, at in (("a", 1), ("a", 5), ("b", 2), ("b", 3), ("c", 6)):
        queue.push(org, 1, at)

    assert sorted(queue.drop_heads(lambda at: at < 4)) == [1, 2, 3]
    assert (len(queue), queue.waiting("a"), queue.waiting("b"), queue.organizations) == (2, 1, 0, 2)


@given(_PUSHES)
def test_everything_that_was_pushed_is_popped_once_and_in_order_per_organization(
    pushes: list[tuple[str, int]],
) -> None:
    """Nothing is lost, doubled or overtaken by its own organization."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number, (org, tokens) in enumerate(pushes):
        queue.push(org, tokens, (org, number))

    popped = [item for item in (queue.pop() for _ in pushes) if item is not None]

    assert queue.pop() is None
    assert len(queue) == 0
    for org in "abcd":
        wanted = [(o, n) for n, (o, _) in enumerate(pushes) if o == org]
        assert [item for item in popped if item[0] == org] == wanted


@given(st.lists(st.integers(1, 50_000), min_size=40, max_size=40))
def test_backlogged_organizations_get_the_same_tokens_through(costs: list[int]) -> None:
    """Never further apart than one turn and the largest request."""
    quantum_tokens = 2_048
    queue: FairQueue[tuple[str, int]] = FairQueue(quantum_tokens)
    for number, tokens in enumerate(costs):
        org = "a" if number < 20 else "b"
        queue.push(org, tokens, (org, tokens))
    served = Counter({"a": 0, "b": 0})

    while queue.waiting("a") and queue.waiting("b"):
        item = queue.pop()
        assert item is not None
        served[item[0]] += item[1]

    assert abs(served["a"] - served["b"]) <= quantum_tokens + max(costs)

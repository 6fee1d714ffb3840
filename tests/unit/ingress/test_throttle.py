"""What the throttle lets pass, by what was answered before."""

from __future__ import annotations

from ingress.gatekeeper.throttle import WINDOW_S, Throttle
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode

WHOSE = ("acme", "echo")
SHED = Refusal(ErrorCode.OVERLOADED, "", retry_after_ms=700)


def _passed(throttle: Throttle, now_s: float, offered: int = 1_000) -> int:
    draws = (number / offered for number in range(offered))
    return sum(throttle.refusal_of(WHOSE, now_s, draw) is None for draw in draws)


def test_without_overload_everything_passes() -> None:
    """And nothing is kept."""
    throttle = Throttle()
    for _ in range(100):
        throttle.note(WHOSE, None, 0.0)

    assert _passed(throttle, 1.0) == 1_000
    assert throttle == Throttle()


def test_twice_as_much_passes_as_is_served() -> None:
    """Of 800 requests in a second 160 are served: a capacity that is left is found."""
    throttle = Throttle()
    throttle.note(WHOSE, SHED, 0.0)
    passed = [0] * 30
    for second in range(30):
        for number in range(800):
            draw = (number * 617 % 800) / 800
            if throttle.refusal_of(WHOSE, second, draw) is None:
                passed[second] += 1
                refusal = None if passed[second] <= 160 else SHED
                throttle.note(WHOSE, refusal, second + 0.5)

    assert all(280 <= count <= 360 for count in passed[15:])


def test_a_refusal_tells_the_hint_of_the_last_answer() -> None:
    """Within bounds."""
    throttle = Throttle()
    for hint_ms in (5, 900_000, 700):
        throttle.note(WHOSE, Refusal(ErrorCode.OVERLOADED, "", retry_after_ms=hint_ms), 0.0)

    refusal = throttle.refusal_of(WHOSE, 0.1, 0.0)

    assert refusal is not None
    assert (refusal.status, refusal.wait_ms) == (503, 700)


def test_other_organizations_and_models_are_not_concerned() -> None:
    """Each has a window of its own."""
    throttle = Throttle()
    for _ in range(100):
        throttle.note(WHOSE, SHED, 0.0)

    assert throttle.refusal_of(("acme", "other"), 1.0, 0.0) is None
    assert throttle.refusal_of(("other", "echo"), 1.0, 0.0) is None
    assert throttle.refusal_of(WHOSE, 1.0, 0.0) is not None


def test_other_failures_are_no_overload() -> None:
    """A backend that refuses a request has served it."""
    throttle = Throttle()
    throttle.note(WHOSE, SHED, 0.0)
    for _ in range(10):
        throttle.note(WHOSE, Refusal(ErrorCode.UPSTREAM_REJECTED, ""), 0.0)

    assert throttle.refusal_of(WHOSE, 1.0, 0.0) is None


def test_it_recovers_within_its_window() -> None:
    """What is older does not count, and is forgotten."""
    throttle = Throttle()
    for _ in range(100):
        throttle.note(WHOSE, SHED, 0.0)

    assert throttle.refusal_of(WHOSE, WINDOW_S - 1, 0.0) is not None
    # Refusals of its own count as answers, so the last of them must grow old as well.
    assert throttle.refusal_of(WHOSE, 2 * WINDOW_S, 0.0) is None
    assert throttle == Throttle()

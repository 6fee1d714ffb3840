"""Until when an attempt may go on."""

from __future__ import annotations

import pytest

from dispatcher.attempts.patience import Patience
from schemas.entities import Backend

_BACKEND = Backend(url="http://b", timeout_s=30.0, total_timeout_s=600.0, idle_timeout_s=10.0)


@pytest.mark.parametrize(
    ("streams", "left_s", "at_s", "until_s"),
    [
        (False, 100.0, 1_000.0, 1_030.0),
        (False, 100.0, 1_020.0, 1_030.0),
        (False, 5.0, 1_000.0, 1_005.0),
        (True, 900.0, 1_000.0, 1_010.0),
        (True, 900.0, 1_595.0, 1_600.0),
        (True, 5.0, 1_000.0, 1_005.0),
    ],
    ids=[
        "a whole answer has the backend's time",
        "and shows no progress",
        "at most its request's",
        "a stream may be silent for so long",
        "to the backend's end at most",
        "and its request's",
    ],
)
def test_a_call_without_progress_ends(
    *, streams: bool, left_s: float, at_s: float, until_s: float
) -> None:
    """By whichever bound comes first."""
    patience = Patience.of(_BACKEND, 1_000.0, left_s, streams=streams)

    assert patience.until_s(at_s) == until_s

"""The Prefer header, as clients write it."""

from __future__ import annotations

import pytest

from ingress.http.request import Preference, preference_of


@pytest.mark.parametrize(
    ("sent", "preference"),
    [
        (b"", Preference()),
        (b"respond-async", Preference(respond_async=True)),
        (b"respond-async, wait=10", Preference(respond_async=True, wait_s=10)),
        (b'Wait="5";x=1 , Respond-Async', Preference(respond_async=True, wait_s=5)),
        (b"wait=0", Preference(wait_s=0)),
        (b"wait=1, wait=2", Preference(wait_s=1)),
        (b"wait=-1, wait=soon, handling=strict", Preference()),
        (b"respond-asynchronously", Preference()),
        (b"wait=" + b"9" * 100, Preference()),
    ],
)
def test_preferences_are_read_and_unknown_ones_ignored(sent: bytes, preference: Preference) -> None:
    """RFC 7240: the first of a kind counts, nothing is refused."""
    assert preference_of({b"prefer": sent}) == preference

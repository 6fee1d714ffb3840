"""What a cluster of stores is given: every slot once, and ports that exist."""

from __future__ import annotations

import itertools

import pytest

from deploy.embedded.cluster import SLOTS, cluster_settings, slot_ranges


@pytest.mark.parametrize("primaries", [1, 2, 3, 7])
def test_every_slot_has_one_primary(primaries: int) -> None:
    """In shares that differ by one at most."""
    ranges = slot_ranges(primaries)
    served = [range(first, last + 1) for first, last in ranges]

    assert list(itertools.chain(*served)) == list(range(SLOTS))
    assert len({len(share) for share in served}) <= 2


def test_the_port_between_servers_is_a_chosen_one() -> None:
    """The usual one is 10 000 above the clients', where there may be none."""
    assert "cluster-port 41725\n" in cluster_settings(41_725)

"""What a server of a cluster is told."""

from __future__ import annotations

from deploy.embedded.cluster import cluster_settings


def test_the_port_between_servers_is_a_chosen_one() -> None:
    """The usual one is 10 000 above the clients', where there may be none."""
    assert "cluster-port 41725\n" in cluster_settings(41_725)

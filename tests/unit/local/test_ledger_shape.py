"""How many servers carry the ledger: what may be asked for, their names, ports and address."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.embedded.ledger_shape import LedgerShape, ledger_ports
from deploy.embedded.problem import StackError
from deploy.embedded.stores import Stores

PROGRAM = Path("/usr/bin/valkey-server")


def test_one_server_is_called_ledger_and_is_no_cluster() -> None:
    """As in state folders of before."""
    shape = LedgerShape()
    ports = ledger_ports(shape)
    stores = Stores(shape, ports, PROGRAM)

    assert shape.names == ("ledger",)
    assert stores.ledger_url == f"redis://127.0.0.1:{ports['ledger']}/0"
    assert not stores.nodes


def test_every_server_of_a_cluster_has_two_ports_of_its_own() -> None:
    """One for clients, who are told of all, and one for the others."""
    shape = LedgerShape(3, 1)
    ports = ledger_ports(shape)
    stores = Stores(shape, ports, PROGRAM)

    assert len(shape.names) == 6
    assert len({*ports.values()}) == 12
    assert stores.ledger_url.count(",") == 5
    assert [node.port for node in stores.nodes] == [ports[name] for name in shape.names]


@pytest.mark.parametrize("shape", [(0, 0), (2, 0), (1, 1), (10, 0), (3, 3), (3, -1)])
def test_a_shape_that_cannot_be_is_refused(shape: tuple[int, int]) -> None:
    """Two servers have no majority when they differ; a server alone has no copy."""
    with pytest.raises(StackError, match="cannot have"):
        LedgerShape(*shape).check()


def test_a_shape_is_said_as_a_person_says_it() -> None:
    """Singular and plural."""
    assert str(LedgerShape(3, 1)) == "3 primaries with 1 replica each"
    assert str(LedgerShape()) == "1 primary"

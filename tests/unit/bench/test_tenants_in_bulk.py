"""Tenants by the thousand: the entries that the control plane would have written."""

from __future__ import annotations

from deploy.bench.tenants_in_bulk import entries, tenants
from schemas.config_state import ConfigState
from schemas.entities import Key
from schemas.ids import api_key_hash


def test_keys_are_spread_over_organizations_and_known_by_their_hash() -> None:
    """Each organization is written once, before its first key; all of it is applied without a problem."""
    made = tenants(orgs=3, keys=7, prefix="many")
    state = ConfigState()
    written = list(entries(made, b"pepper", now_ms=1))

    problems = [state.apply(entry, offset) for offset, entry in enumerate(written)]

    assert [entry.kind for entry in written].count("organization") == 3
    assert [problem for problem in problems if problem is not None] == []
    keys = [entity for entity in state.entities.values() if isinstance(entity, Key)]
    assert {key.hash for key in keys} == {api_key_hash(b"pepper", one.secret) for one in made}
    assert {key.org for key in keys} == {"many-0", "many-1", "many-2"}

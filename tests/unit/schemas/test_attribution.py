"""Whose request it was is told alike by all that follow from it, whoever writes them."""

from __future__ import annotations

import msgspec

from accounting.booking import entry_of
from schemas.attribution import attribution_of
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished
from schemas.hold_facts import HoldFacts, info_of
from tests.support.event_samples import SAMPLES
from tests.support.events import accepted

_REF = RecordRef(topic="inference.outcomes.v1", partition=0, offset=1)
_LINE = {"batch_id": "batch_018bcfe5680070008000000000000001", "batch_line": 17}


def test_who_finds_a_hold_alone_tells_the_line_that_it_was_of() -> None:
    """The ledger keeps it among facts that it does not read; of a request that is no line it keeps nothing more."""
    line, other = accepted(**_LINE), accepted()
    facts = HoldFacts.decoded(info_of(line, _REF).encoded())

    assert facts.attribution(line.org, line.request_id) == attribution_of(line)
    assert "batch" not in info_of(other, _REF).encoded()


def test_usage_lines_name_the_line_of_a_batch_also_of_a_correction() -> None:
    """So a batch is summed from them."""
    outcome, change = SAMPLES["RequestFinished"], SAMPLES["AttemptAdjusted"]
    assert isinstance(outcome, RequestFinished)
    assert isinstance(change, AttemptAdjusted)

    for event in (outcome, change):
        (line,) = entry_of(event, _REF, 1).lines
        assert {name: getattr(line, name) for name in _LINE} == _LINE
    assert attribution_of(msgspec.structs.replace(outcome, batch_id=None))["batch_id"] is None

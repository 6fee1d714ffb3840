"""Under which conditions ingress takes nothing new."""

from __future__ import annotations

import pytest

from ingress.gatekeeper.log_gate import Conditions
from ingress.health.conditions import ledger_fullness, low_disk
from ingress.health.fleet import LastSeen, Moment
from schemas.ledger.shards import Shards
from tests.support.gateway import Gateway

NOW_MS = 1_700_000_000_000
GIB = 1024**3


def _info(used: object, most: object) -> str:
    return f"# Memory\r\nused_memory:{used}\r\nused_memory_human:1M\r\nmaxmemory:{most}\r\n"


@pytest.mark.parametrize(
    ("info", "is_full"),
    [
        (_info(79, 100), False),
        (_info(80, 100), True),
        (_info(80, 0), False),
        (_info("many", 100), False),
        ("", False),
        ("-ERR", False),
    ],
    ids=["below", "at the mark", "no maximum", "no number", "nothing", "no answer"],
)
def test_a_ledger_is_full_at_four_fifths(info: str, *, is_full: bool) -> None:
    """The fullest of its servers counts, and what is not known is not full."""
    assert (ledger_fullness([_info(1, 100), info, _info(2, 100)]) is not None) is is_full


@pytest.mark.parametrize(
    ("line", "is_low"),
    [
        (f"{GIB} {100 * GIB} {NOW_MS}", False),
        (f"{GIB - 1} {100 * GIB} {NOW_MS}", True),
        (f"{GIB - 1} {100 * GIB} {NOW_MS - 31_000}", False),
        ("1 2", False),
        ("a b c", False),
    ],
    ids=["enough", "low", "not known any more", "too short", "no numbers"],
)
def test_a_disk_is_low_below_its_mark(line: str, *, is_low: bool) -> None:
    """As it was told lately."""
    found = low_disk({"broker": line}, LastSeen(), Moment(NOW_MS, 100.0), GIB)

    assert (found is not None) is is_low


@pytest.mark.parametrize("name", ["ledger_memory", "broker_disk", "config", "log"])
async def test_nothing_new_is_taken_then_and_it_recovers_by_itself(name: str) -> None:
    """503 with a hint, before anything is read; the status says why."""
    gateway = Gateway()

    def make(*, is_so: bool) -> None:
        gateway.conditions.ledger_memory = "81%" if is_so and name == "ledger_memory" else None
        gateway.conditions.disk = "1 byte left" if is_so and name == "broker_disk" else None
        behind_s = 5.0 if is_so and name == "config" else 0.0
        gateway.config.behind_s = behind_s
        gateway.log.unacknowledged_s = 2.1 if is_so and name == "log" else 0.0

    make(is_so=True)
    refused = await gateway.chat()
    ready = await gateway.client.get("/v1/status/readyz")
    make(is_so=False)

    assert (refused.status_code, len(gateway.log.records)) == (503, 0)
    assert int(refused.headers["retry-after"]) >= 1
    if name != "log":
        assert (ready.status_code, name in ready.json()["bounds"]) == (503, True)
    assert (await gateway.chat()).status_code == 200
    assert (await gateway.client.get("/v1/status/readyz")).status_code == 200


async def test_a_closed_shard_keeps_its_own_organizations_out_and_nobody_else() -> None:
    """503 with a hint before anything is read, and the status names the shard."""
    gateway = Gateway()
    gateway.conditions.shards = shards = Shards(4)
    mine = shards.of("acme")

    gateway.conditions.closed = {mine: "being rebuilt"}
    refused = await gateway.chat()
    ready = await gateway.client.get("/v1/status/readyz")
    gateway.conditions.closed = {(mine + 1) % 4: "being rebuilt", (mine + 2) % 4: "being rebuilt"}
    served = await gateway.chat()

    assert (refused.status_code, len(gateway.log.records)) == (503, 1)
    assert int(refused.headers["retry-after"]) >= 1
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["bounds"]["ledger_shards"] == f"being rebuilt: {mine}"
    assert served.status_code == 200


@pytest.mark.parametrize(("behind_s", "status"), [(2.1, 202), (10.1, 503)])
async def test_background_work_may_wait_for_a_log_that_is_behind(
    behind_s: float, status: int
) -> None:
    """Its promise is given once the broker has it; where that took too long for others, nobody waits."""
    gateway = Gateway()
    gateway.log.unacknowledged_s = behind_s
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}

    answer = await gateway.client.post("/v1/jobs", json=body)

    assert answer.status_code == status
    assert status == 202 or int(answer.headers["retry-after"]) >= 1


def test_conditions_are_named() -> None:
    """All of them at once."""
    conditions = Conditions("empty", ledger_memory="81%", disk="1 byte")

    assert conditions.closing(5.0).keys() == {"ledger", "ledger_memory", "broker_disk", "config"}
    assert Conditions().closing(4.9) == {}

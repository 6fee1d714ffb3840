"""One run: load, loss, load, rest; then old keys asked again, job lists read, and all evidence gathered."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from tests.chaos.evidence import OK, ClientRequest, Evidence, Exchange
from tests.chaos.full_verify import FullVerify, verify_fully
from tests.chaos.gathering import LIVENESS_S, gather
from tests.chaos.load import Load, judge
from tests.chaos.losses import Losing, Scenario
from tests.chaos.refusals import Clock
from tests.chaos.rig import Rig
from tests.chaos.run import CONNECT_S
from tests.chaos.shard_watch import Reopened, ShardWatch
from tests.chaos.stores import StoreServer, ledger_servers, orgs_of
from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.kafka_log import KafkaLog

KINDS: Final = ("sync", "sync", "stream", "stream", "job", "plain", "plain", "failover")
SEED: Final = 10
REPLAYED: Final = 200
AT_ONCE: Final = 20
_PAGE: Final = 100
_SETTLES_S: Final = 5.0
"""Whatever is behind has this long before evidence is gathered."""


@dataclass(frozen=True)
class Loads:
    """How much is asked, and for how long before and after the loss."""

    rate_per_s: float
    before_s: float
    after_s: float


@dataclass(frozen=True)
class Replay:
    """A keyed request that was answered, and what its key is answered now."""

    marker: str
    first: Exchange
    again: Exchange


@dataclass(frozen=True)
class Run:
    """What a run showed."""

    evidence: Evidence
    clock: Clock
    worst_nano_usd: int
    """The most that was put on hold for one request."""
    rate_per_s: float
    """How many requests clients really began in a second, tries again left out."""
    lost_s: float
    stopped_s: float
    held: Mapping[str, Mapping[int, int]]
    """By primary and shard, how many organizations stood there before the loss."""
    shards: Mapping[int, Reopened | None]
    replays: tuple[Replay, ...]
    called_again: tuple[str, ...]
    """Requests that backends were called for while old keys were asked again."""
    listed: Mapping[str, Mapping[str, str]]
    """Jobs by organization: id to status."""
    servers: Sequence[StoreServer]
    verified: FullVerify
    """What operators are told after everything else."""
    told: tuple[str, ...]
    wrong: tuple[str, ...]
    """What was wrong about the loss itself."""


async def lose(rig: Rig, scenario: Scenario, loads: Loads) -> Run:
    """The whole run."""
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
    connector = aiohttp.TCPConnector(limit=0)
    losing = Losing.of(rig)
    watch = ShardWatch(rig.state_dir)
    clock = Clock(time.time() - time.monotonic())
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        client = GatewayClient(session, rig.stack.api_url)
        load = Load(client, rig.grants, loads.rate_per_s, random.Random(SEED), KINDS)
        began_s = time.monotonic()
        watching = asyncio.create_task(watch.run())
        running = asyncio.create_task(load.run())
        try:
            await asyncio.sleep(loads.before_s)
            held = await asyncio.to_thread(orgs_of, ledger_servers(rig.state_dir))
            await scenario.lose(losing)
            await asyncio.sleep(max(0.0, losing.lost_s + loads.after_s - time.monotonic()))
        finally:
            stopped_s = time.monotonic()
            load.stop()
            await running
        await until_complete(watch, losing.lost_s)
        watching.cancel()
        seen = await look_back(rig, client, load)
    return Run(
        **seen,
        clock=clock,
        rate_per_s=len(load.history) / (stopped_s - began_s),
        lost_s=losing.lost_s,
        held=held_by(held),
        stopped_s=stopped_s,
        shards=watch.reopened(losing.lost_s),
        told=tuple(losing.told),
        wrong=tuple(losing.found),
    )


def held_by(orgs: Mapping[str, Mapping[int, set[str]]]) -> dict[str, dict[int, int]]:
    """How many organizations stand where."""
    return {
        server: {number: len(names) for number, names in shards.items()}
        for server, shards in orgs.items()
    }


async def look_back(
    rig: Rig, client: GatewayClient, load: Load, *, replayed: int = REPLAYED
) -> dict[str, Any]:
    """What a run left behind, once all rests: evidence, old keys asked again, lists of jobs, the whole comparison."""
    evidence = await asyncio.to_thread(gather, rig, load.history)
    before = len(rig.calls())
    replays = await _replay(client, rig, load, replayed)
    called_again = tuple(call.start.request_id or "" for call in rig.calls()[before:])
    return {
        "evidence": evidence,
        "worst_nano_usd": await asyncio.to_thread(_worst_hold, rig),
        "replays": replays,
        "called_again": called_again,
        "listed": {grant.org: await _list(client, grant.key) for grant in rig.grants},
        "servers": tuple(ledger_servers(rig.state_dir)),
        "verified": await asyncio.to_thread(verify_fully, rig.stack.admin_url),
    }


async def until_complete(watch: ShardWatch, lost_s: float) -> None:
    """Until every shard that was closed has all its books again, for as long as coming to rest may take."""
    end_s = time.monotonic() + LIVENESS_S
    while time.monotonic() < end_s:
        closed = [again for again in watch.reopened(lost_s).values() if again is not None]
        if closed and all(again.complete_s is not None for again in closed):
            break
        await asyncio.sleep(0.5)
    await asyncio.sleep(_SETTLES_S)


async def _replay(client: GatewayClient, rig: Rig, load: Load, at_most: int) -> tuple[Replay, ...]:
    """Ask again, under their keys, some of those that were answered, from all over the run."""
    keyed = [c for c in load.history if c.is_answered and c.kind != "plain"]
    chosen = random.Random(SEED).sample(keyed, min(at_most, len(keyed)))
    keys = {grant.org: grant.key for grant in rig.grants}
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(first: ClientRequest) -> Replay:
        async with places:
            return await _ask_again(client, first, keys[first.org], load.bodies[first.marker])

    return tuple(await asyncio.gather(*map(ask, chosen)))


async def _ask_again(
    client: GatewayClient, first: ClientRequest, key: str, body: Mapping[str, Any]
) -> Replay:
    told = first.tries[-1]
    is_job = first.kind == "job"
    path = "/jobs" if is_job else "/chat/completions"
    sent_s = time.monotonic()
    reply = await client.post(path, key, body, {"Idempotency-Key": first.marker})
    if is_job and reply.status in (200, 202):
        # The answer of a job is fetched; its key only leads to the same job.
        again = Exchange(sent_s, time.monotonic(), OK, str(reply.json["id"]), told.text_sha256)
    else:
        again, _ = judge(reply, sent_s, time.monotonic())
    return Replay(first.marker, told, again)


async def _list(client: GatewayClient, key: str) -> dict[str, str]:
    """All jobs of an organization, page after page."""
    listed: dict[str, str] = {}
    after = ""
    while True:
        reply = await client.get(f"/jobs?limit={_PAGE}{after}", key)
        assert reply.status == 200, reply.body
        page = reply.json
        listed |= {job["id"]: job["status"] for job in page["data"]}
        if not page["has_more"] or not page["data"]:
            return listed
        after = f"&after={page['data'][-1]['id']}"


def _worst_hold(rig: Rig) -> int:
    """The largest hold of money that any admission took."""
    log = KafkaLog(rig.stack.kafka)
    admitted = log.read("inference.dispatch.v1", lambda _: True, LIVENESS_S)
    holds = [hold for record in admitted for hold in record.value["holds"]]
    return max(int(hold["amount"]) for hold in holds if hold["unit"] == "nano_usd")

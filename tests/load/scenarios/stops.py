"""SIGTERM to each process under load, one at a time, with a second copy running."""

from __future__ import annotations

import asyncio
from time import perf_counter

from deploy.bench.requests import prepare_mix
from tests.load.offer import offer
from tests.load.scenarios.neighbours import line
from tests.support.harness.scene import HEALTHY_MODEL, Scene

_RATE_PER_S = 50.0
_WINDOW_S = 30.0
_STOP_AT_S = 5.0
_ROLES = ("ingress-0", "limiter_worker-0", "dispatcher-0", "accounting-0")


async def stop_each(scene: Scene) -> list[str]:
    """A balanced load on both ingresses; each process is stopped in order and started again."""
    tenant = await scene.tenant("rolling")
    ports = scene.stack.ports
    urls = [f"http://127.0.0.1:{ports[name]}/v1" for name in ("ingress-0", "ingress-1")]
    requests = prepare_mix(scene.url, tenant.key, HEALTHY_MODEL, 0.25)
    lines = []
    for name in _ROLES:

        async def restart(who: str = name) -> float:
            await asyncio.sleep(_STOP_AT_S)
            began_s = perf_counter()
            await scene.stack.processes[who].stop()
            gone_s = perf_counter() - began_s
            await asyncio.sleep(3.0)
            await scene.stack.processes[who].start()
            return gone_s

        stopping = asyncio.create_task(restart())
        offered = await offer(urls, requests, _RATE_PER_S, _WINDOW_S)
        lines.append(line(f"SIGTERM {name}", offered))
        lines.append(
            f"  gone after {await stopping:.1f} s; sent to the other copy: {offered.resent}"
        )
    return [*lines, f"ledger: difference {(await scene.difference())['difference']}"]

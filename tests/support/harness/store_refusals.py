"""What the stores of a stack refused its processes: commands, keys and channels that their users may not use."""

from __future__ import annotations

import json

import redis

from tests.support.harness.running_stack import RunningStack
from tests.support.harness.store_servers import OfStack

_COURTESY = "client|setinfo"
"""redis-py says its name and minds no refusal; 7.0 does not know the command, nor may a user's line name it."""


def refusals(stack: RunningStack) -> list[str]:
    """Each as `<user>: <reason> <object>`; plain connections of this machine only."""
    bus = json.loads((stack.state_dir / "stack.json").read_text())["ports"]["bus"]
    told: set[str] = set()
    for port in (bus, *(node.port for node in OfStack(stack).nodes.values())):
        with redis.Redis(port=port, protocol=2, decode_responses=True) as store:
            log = [each for each in store.acl_log(count=128) if each["object"] != _COURTESY]
        told |= {f"{each['username']}: {each['reason']} {each['object']}" for each in log}
    return sorted(told)

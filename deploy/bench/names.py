"""The scenarios of ``tallygate bench``: the only list. Pure, so that help needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

SCENARIOS: Final[Mapping[str, str]] = {
    "closed": "requests/s and CPU per request, closed loop",
    "open": "added latency and stages, open loop",
    "streams": "added time to first token, open loop of streams",
    "relay": "tokens/s over 20 long streams",
    "bodies": "32 bodies of 4 MB beside 200 small streams",
    "tenants": "200 organizations, ten backends, 60 % of the peak",
    "overload": "2 000/s for ten seconds, and how long until p99 is normal",
    "growth": "cost per request at 10 000 organizations, 100 000 keys",
    "memory": "memory of each process over 100 000 requests",
    "ledger": "decision time of each function in the store",
    "saturation": "rates stepped until p99 or errors break",
    "baseline": "a backend that takes 1.5 s: p95, and what the gateway adds",
    "limits": "a rate, a quota and a budget: exactly as many calls as stated",
    "soak": "half an hour: slopes of memory, descriptors, store keys and lag",
}
"""Each with a file of its name in ``deploy/bench/scenarios``."""
USUAL: Final = ("closed", "open", "streams", "relay")
ALL: Final = "all"
LONG: Final = ("soak",)
"""Asked for by name only."""


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The scenarios that are meant, each once. Raises ``ValueError`` for a name that is none."""
    if not names:
        return USUAL
    if ALL in names:
        return tuple(name for name in SCENARIOS if name not in LONG)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise ValueError(f"no scenario {unknown[0]}: it is one of {', '.join(SCENARIOS)}, {ALL}")
    return tuple(dict.fromkeys(names))

"""What is known after a run, from three sides: the clients' history, the log, and the backends.

Plain values, so that the checks over them are pure and can be shown to fail on invented ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tests.support.fakes.call_log import Call

OK = "ok"
Unit: TypeAlias = Literal["nano_usd", "tokens", "requests", "at_once"]


@dataclass(frozen=True)
class Exchange:
    """One try of a client: written down when it was answered or lost."""

    sent_s: float
    ended_s: float
    result: str
    """``ok``, or the kind of failure: a status, an error code, a lost connection."""
    request_id: str | None = None
    text_sha256: str | None = None
    cost_nano_usd: int | None = None
    """What the client was told; ``None`` when nothing was said."""


@dataclass
class ClientRequest:
    """What one client wanted, and its tries under one idempotency key. Recorded before it is sent."""

    marker: str
    org: str
    kind: str
    tries: list[Exchange] = field(default_factory=list)
    promised: str | None = None
    """The id of the job that was promised with a 202."""

    @property
    def is_answered(self) -> bool:
        return bool(self.tries) and self.tries[-1].result == OK


@dataclass(frozen=True)
class AcceptedRequest:
    """A record of the requests topic: the gateway took responsibility."""

    request_id: str
    marker: str
    org: str = ""


@dataclass(frozen=True)
class Ceiling:
    """What one organization may use in all, or of calls at once, when the run ended."""

    org: str
    unit: Unit
    limit: int


@dataclass(frozen=True)
class Outcome:
    """A record of the outcomes topic that ends a request."""

    request_id: str
    status: str
    attempts: tuple[int, ...]
    value: Mapping[str, Any]


@dataclass(frozen=True)
class UsageLine:
    """A record of the usage topic."""

    usage_id: str
    request_id: str
    attempt: int
    input_tokens: int
    output_tokens: int
    cost_nano_usd: int | None
    estimated: bool
    status: str

    @property
    def amounts(self) -> tuple[int, int, int | None]:
        return self.input_tokens, self.output_tokens, self.cost_nano_usd


@dataclass(frozen=True)
class LedgerState:
    """The ledger at rest: its difference to the log, what is still held by key, and what differs."""

    difference: int
    """-1 when it could not be compared."""
    held: Mapping[str, int]
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """Everything a check may look at. Log records stand in the order of their partition."""

    clients: tuple[ClientRequest, ...]
    accepted: tuple[AcceptedRequest, ...]
    outcomes: tuple[Outcome, ...]
    usage: tuple[UsageLine, ...]
    calls: tuple[Call, ...]
    ledger: LedgerState
    ceilings: tuple[Ceiling, ...] = ()
    breaches: tuple[str, ...] = ()
    """Looks at the ledger during the run that showed more settled and reserved than allowed."""
    keys_are_honoured: bool = True
    """Whether the gateway treats requests of one idempotency key as one."""

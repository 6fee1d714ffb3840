"""What ``tallygate doctor`` judges by: answers of the admin API and of Kafka as frozen values. Pure.

Fields that an earlier version does not send have defaults, so that its gateway can be looked at, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from schemas.reports import ProcessReport
from schemas.topic_facts import Acl, TopicFacts

__all__ = [
    "PRINCIPALS",
    "Backend",
    "Config",
    "Disk",
    "Entry",
    "Gateway",
    "Instance",
    "Kafka",
    "Ledger",
    "Limits",
    "Model",
    "Problem",
    "Seen",
    "Server",
    "Shard",
    "Status",
    "Target",
]

PRINCIPALS: Final = ("orgs", "projects", "users", "keys")
"""The lists whose entries may have budgets."""


class Instance(msgspec.Struct, frozen=True):
    """One process, as it reports itself."""

    name: str
    role: str
    offset: int
    live: bool
    report: ProcessReport | None = None


class Problem(msgspec.Struct, frozen=True):
    """One entry of the configuration that is not in force."""

    where: str
    what: str


class Config(msgspec.Struct, frozen=True):
    """The configuration as the control plane sees it."""

    offset: int
    following: bool
    alarm: str | None = None
    problems: tuple[Problem, ...] = ()


class Disk(msgspec.Struct, frozen=True):
    """The disk of a broker, and how old the report of it is."""

    host: str
    free_bytes: int
    total_bytes: int
    age_ms: int


class Status(msgspec.Struct, frozen=True):
    """``GET /status``."""

    instances: tuple[Instance, ...]
    config: Config
    disks: tuple[Disk, ...] = ()
    books: str = "ok"
    kafka_brokers: str = ""
    kafka_protocol: str = ""

    @property
    def live(self) -> tuple[Instance, ...]:
        """Those that reported lately."""
        return tuple(instance for instance in self.instances if instance.live)

    @property
    def reports(self) -> dict[str, ProcessReport]:
        """What they say of themselves, by instance."""
        return {each.name: each.report for each in self.live if each.report is not None}


class Shard(msgspec.Struct, frozen=True):
    """One shard of the ledger."""

    shard: int
    state: str
    decides: bool
    why: str = ""


class Server(msgspec.Struct, frozen=True):
    """One server of the ledger."""

    maxmemory_bytes: int
    policy: str
    appends: bool
    last_write: str
    port: int = 0


class Ledger(msgspec.Struct, frozen=True):
    """``GET /ledger/shards``."""

    items: tuple[Shard, ...]
    servers: tuple[Server, ...]


class Seen(msgspec.Struct, frozen=True):
    """A backend as one dispatcher sees it."""

    instance: str
    state: str
    lacks_key: bool = False
    probe: str = ""


class Backend(msgspec.Struct, frozen=True):
    """A backend of the configuration."""

    id: str
    url: str
    api_key_env: str | None = None
    drained: bool = False
    state: str = "active"
    health: tuple[Seen, ...] = ()

    @property
    def is_drained(self) -> bool:
        return self.drained or self.state == "drained"


class Target(msgspec.Struct, frozen=True):
    """One backend of a route."""

    backend: str
    weight: int = 1


class Model(msgspec.Struct, frozen=True):
    """A model of the configuration."""

    id: str
    backends: tuple[Target, ...] = ()
    input_usd_per_mtok: Any = None
    output_usd_per_mtok: Any = None
    prices: tuple[Any, ...] = ()

    @property
    def has_price(self) -> bool:
        return bool(self.prices) or None not in (self.input_usd_per_mtok, self.output_usd_per_mtok)


class Limits(msgspec.Struct, frozen=True):
    """As far as money goes."""

    budgets: tuple[Any, ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """An organization, project, user or key."""

    id: str
    limits: Limits = Limits()
    budget_service: Any = None
    org: str | None = None
    project: str | None = None
    user: str | None = None
    models: tuple[str, ...] | None = None
    revoked_at_ms: int | None = None

    @property
    def has_budget(self) -> bool:
        """Whether money counts here, by its own limits or by those of a budget service."""
        return bool(self.limits.budgets) or self.budget_service is not None


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the control plane told."""

    status: Status
    ledger: Ledger | None = None
    """``None`` while it does not answer."""
    backends: tuple[Backend, ...] = ()
    models: tuple[Model, ...] = ()
    principals: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    listed_at: Mapping[str, str] = field(default_factory=dict)
    """Backend to another address, where somebody answers a list of models, while its own has none."""
    own_certificates: Mapping[str, int] = field(default_factory=dict)
    """File of this command line to when it ends, Unix seconds."""
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Kafka:
    """What the brokers told whoever may ask them."""

    brokers: str
    topics: Sequence[TopicFacts]
    acls: Sequence[Acl] | None = None
    """``None`` where they ask nobody who he is, or do not tell."""

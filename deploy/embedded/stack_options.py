"""What a stack is asked to be, and what it is: shapes of ledger and log are stated once, by the first start. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.embedded.ledger_shape import LedgerShape
from deploy.embedded.problem import StackError
from deploy.embedded.replicas import PARTITIONS
from deploy.embedded.state import Memory, new_memory


@dataclass(frozen=True)
class StackOptions:
    """What to start and where.

    Of `environment` every child gets what it needs (`deploy.embedded.environment`), with the stack's own
    settings on top. `explicit_ports`
    are by process name (`ingress-0`, `admin-0`, `kafka`, ...); they are used or refused. Without a `ledger` it
    is the one that the state folder has, or one server.
    """

    state_dir: Path
    cache_dir: Path
    environment: Mapping[str, str]
    replicas: Mapping[str, int] = field(default_factory=dict)
    explicit_ports: Mapping[str, int] = field(default_factory=dict)
    ledger: LedgerShape | None = None
    brokers: int | None = None
    """1 or 3; without it as many as the state folder has, or one."""
    store_program: Path | None = None
    """Another server program for ledger and bus than the embedded one."""
    has_store_tls: bool = False
    has_store_users: bool = False
    """Whether each process is a user of its own in the stores, who may do what it needs and no more."""
    has_mtls: bool = False
    """Whether the admin port speaks TLS, and only to clients with certificates."""
    has_kafka_users: bool = False
    """Whether each process is a user of its own in Kafka, over TLS, who may do what it needs and no more."""
    partitions: int = PARTITIONS
    has_example_backends: bool = True
    is_infrastructure_only: bool = False
    has_random_ports: bool = False


def remembered(
    options: StackOptions, known: Memory | None, random_bytes: Callable[[int], bytes]
) -> Memory:
    """What the stack remembers: what is known of its folder, or what is new. Raises StackError for another shape."""

    def secret() -> str:
        return random_bytes(32).hex()

    if known is None:
        shape = options.ledger or LedgerShape()
        return replace(
            new_memory(random_bytes),
            store_secret=secret(),
            signing_pepper=secret(),
            webhook_pepper=secret(),
            config_secret=secret(),
            is_config_signed=True,
            ledger_primaries=shape.primaries,
            ledger_replicas=shape.replicas,
            brokers=options.brokers or 1,
        )
    has = LedgerShape(known.ledger_primaries, known.ledger_replicas)
    fix = "leave the option out, or choose another folder with --state-dir"
    if options.ledger not in {None, has}:
        what = f"the ledger in {options.state_dir} has another shape"
        raise StackError(what, f"it has {has}, and {options.ledger} was asked for", fix)
    if options.brokers not in {None, known.brokers}:
        what = f"the log in {options.state_dir} has another number of brokers"
        why = f"it has {known.brokers}, and {options.brokers} were asked for"
        raise StackError(what, why, fix)
    return replace(
        known,
        store_secret=known.store_secret or secret(),
        config_secret=known.config_secret or secret(),
        signing_pepper=known.signing_pepper or secret(),
        webhook_pepper=known.webhook_pepper or secret(),
    )

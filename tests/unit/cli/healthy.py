"""A gateway in which nothing is wrong, as ``tallygate doctor`` sees it, and twenty ways to be ill: one change each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from msgspec.structs import replace as changed

from deploy.cli.doctor.backends import of_backends
from deploy.cli.doctor.facts import (
    Backend,
    Config,
    Disk,
    Entry,
    Gateway,
    Instance,
    Kafka,
    Ledger,
    Limits,
    Model,
    Seen,
    Server,
    Shard,
    Status,
    Target,
)
from deploy.cli.doctor.finding import Finding
from deploy.cli.doctor.log import of_log
from deploy.cli.doctor.machine import of_certificates, of_port
from deploy.cli.doctor.processes import of_processes
from deploy.cli.doctor.stores import of_config, of_stores
from schemas.kafka_users import KAFKA_USERS
from schemas.reports import ProcessReport
from schemas.topic_facts import Acl, TopicFacts
from schemas.topics import OUTCOMES, TOPICS, USAGE_RECORDS

NOW_MS = 1_700_000_000_000
NOW_S = NOW_MS // 1_000
DAY_S = 86_400
ADMIN_PEM = "/state/admin-tls/server.pem"
_PEPPERS = {"TALLYGATE_KEY_PEPPER": "aaaaaaaa", "TALLYGATE_SIGNING_PEPPER": "bbbbbbbb"}
_ROLES = ("admin", "ingress", "batches", "limiter_worker", "dispatcher", "accounting")


def report(role: str) -> ProcessReport:
    """What a process of the role says."""
    stores: dict[str, tuple[str, ...]] = {"ledger": ("run-l",)}
    if role != "admin":
        stores["bus"] = ("run-b",)
    return ProcessReport(
        run=f"run-{role}",
        at_ms=NOW_MS,
        peppers=_PEPPERS if role in ("admin", "ingress") else {},
        local_ahead_ms=3,
        broker_ahead_ms=-2,
        kafka_user=role,
        stores=stores,
        certificates={ADMIN_PEM: NOW_S + 400 * DAY_S} if role == "admin" else {},
        disk_free_min_bytes=1 << 30 if role == "ingress" else 0,
        keeps_files=role in ("ingress", "batches"),
    )


STATUS = Status(
    instances=tuple(
        Instance(f"{role}-0", role, 8, live=True, report=report(role)) for role in _ROLES
    ),
    config=Config(offset=8, following=True),
    disks=(Disk("127.0.0.1", 50 << 30, 100 << 30, 3_000),),
    kafka_brokers="127.0.0.1:9092",
    kafka_protocol="SASL_SSL",
)
SERVER = Server(maxmemory_bytes=9, policy="noeviction", appends=True, last_write="ok", port=6390)
BACKEND = Backend(
    "gpu-1",
    "http://gpu-1:8000/v1",
    api_key_env="BACKEND_GPU_API_KEY",
    health=(Seen("dispatcher-0", "healthy", probe="status 200"),),
)
GATEWAY = Gateway(
    status=STATUS,
    ledger=Ledger((Shard(0, "whole", decides=True),), (SERVER,)),
    backends=(BACKEND,),
    models=(Model("echo", (Target("gpu-1"),), "0.50", "1.50"),),
    principals={
        "orgs": (Entry("acme", Limits(budgets=({"usd": "1", "period": "day"},))),),
        "projects": (),
        "users": (),
        "keys": (Entry("k1", org="acme"),),
    },
    now_s=NOW_S,
)
KAFKA = Kafka(
    "127.0.0.1:9092",
    [TopicFacts(t.name, 1 if t.one_partition else 4, 1, t.settings()) for t in TOPICS],
    [
        Acl(f"User:{user}", grant.resource, grant.name, "literal", grant.operation)
        for user, rights in KAFKA_USERS.items()
        for grant in rights.grants()
    ],
)


def findings(gateway: Gateway, kafka: Kafka = KAFKA) -> list[Finding]:
    """All that a doctor says of them."""
    return [
        *of_processes(gateway.status),
        *of_config(gateway.status),
        *of_stores(gateway),
        *of_backends(gateway),
        *of_certificates(gateway),
        *of_log(kafka, gateway.status),
    ]


def saying(role: str, **more: Any) -> Gateway:
    """The gateway, one of whose processes reports something else."""
    instances = tuple(
        changed(each, report=changed(report(role), **more)) if each.role == role else each
        for each in STATUS.instances
    )
    return replace(GATEWAY, status=changed(STATUS, instances=instances))


def with_backend(**more: Any) -> Gateway:
    """The gateway with another backend in the place of its own."""
    return replace(GATEWAY, backends=(changed(BACKEND, **more),))


def probed(said: str, state: str = "healthy", *, lacks_key: bool = False) -> Gateway:
    """The gateway whose backend said something else."""
    return with_backend(health=(Seen("dispatcher-0", state, lacks_key=lacks_key, probe=said),))


def with_server(**more: Any) -> Gateway:
    """The gateway with another ledger server."""
    ledger = Ledger((Shard(0, "whole", decides=True),), (changed(SERVER, **more),))
    return replace(GATEWAY, ledger=ledger)


def with_topic(name: str, change: Callable[[TopicFacts], TopicFacts]) -> Kafka:
    """The brokers with one topic changed."""
    return replace(KAFKA, topics=[change(t) if t.name == name else t for t in KAFKA.topics])


def _short(topic: TopicFacts) -> TopicFacts:
    return replace(topic, settings={**topic.settings, "retention.ms": "3600000"})


def _stale() -> Gateway:
    instances = tuple(
        changed(each, offset=5) if each.role == "dispatcher" else each for each in STATUS.instances
    )
    return replace(GATEWAY, status=changed(STATUS, instances=instances))


def _cannot_write_outcomes(acl: Acl) -> bool:
    return (acl.principal, acl.name, acl.operation) == ("User:dispatcher", OUTCOMES, "write")


class Illness(NamedTuple):
    """One way to be ill: what is found, as check and place, and the beginning of what to run."""

    said: Callable[[], list[Finding]]
    check: str
    where: str
    run: str


def _of(gateway: Callable[[], Gateway], check: str, where: str, run: str) -> Illness:
    return Illness(lambda: findings(gateway()), check, where, run)


def _in_kafka(kafka: Callable[[], Kafka], check: str, where: str, run: str) -> Illness:
    return Illness(lambda: findings(GATEWAY, kafka()), check, where, run)


ILLNESSES: Mapping[str, Illness] = {
    "pepper differs between processes": _of(
        lambda: saying("ingress", peppers=_PEPPERS | {"TALLYGATE_KEY_PEPPER": "cccccccc"}),
        "pepper", "ingress-0", "TALLYGATE_KEY_PEPPER_FILE=pepper tallygate ingress",
    ),
    "wrong partition count": _in_kafka(
        lambda: with_topic(OUTCOMES, lambda topic: replace(topic, partitions=5)),
        "partitions", OUTCOMES, "kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --delete",
    ),
    "topic missing": _in_kafka(
        lambda: with_topic(OUTCOMES, lambda topic: TopicFacts(topic.name)),
        "topics", OUTCOMES, "tallygate topics apply --partitions 4",
    ),
    "retention too short": _in_kafka(
        lambda: with_topic(USAGE_RECORDS, _short),
        "retention", USAGE_RECORDS, "tallygate topics apply --partitions 4",
    ),
    "bus is the ledger": _of(
        lambda: saying("dispatcher", stores={"ledger": ("run-l",), "bus": ("run-l",)}),
        "bus", "dispatcher-0", "TALLYGATE_BUS_URL=redis://bus:6379/0 tallygate dispatcher",
    ),
    "eviction on the ledger": _of(
        lambda: with_server(policy="allkeys-lru"),
        "eviction", "ledger server, port 6390",
        "valkey-cli -p 6390 config set maxmemory-policy noeviction",
    ),
    "append-only file off": _of(
        lambda: with_server(appends=False),
        "append-only", "ledger server, port 6390", "valkey-cli -p 6390 config set appendonly yes",
    ),
    "unknown schema id": _of(
        lambda: saying("limiter_worker", trouble={"inference.requests.v1-1": "paused: unknown_schema: id 999"}),
        "schema", "limiter_worker-0", "tallygate --version",
    ),
    "clock skew": _of(
        lambda: saying("accounting", local_ahead_ms=-30_000),
        "clock", "accounting-0", "timedatectl set-ntp true",
    ),
    "unpriced model with a budget": _of(
        lambda: replace(GATEWAY, models=(Model("echo", (Target("gpu-1"),)),)),
        "price", "echo", "tallygate models set echo --input-usd-per-mtok",
    ),
    "backend key missing": _of(
        lambda: probed("status 401", lacks_key=True),
        "backend key", "gpu-1", "BACKEND_GPU_API_KEY_FILE=key tallygate dispatcher",
    ),
    "backend answers 401": _of(
        lambda: probed("status 401"),
        "backend 401", "gpu-1",
        "tallygate backends check http://gpu-1:8000/v1 --name gpu-1 --key-env BACKEND_GPU_API_KEY",
    ),
    "URL typo": _of(
        lambda: replace(probed("status 404"), listed_at={"gpu-1": "http://gpu-1:8000/v2"}),
        "backend url", "gpu-1",
        "tallygate backends check http://gpu-1:8000/v2 --name gpu-1 --write",
    ),
    "model without backend": _of(
        lambda: with_backend(drained=True), "model", "echo", "tallygate routes explain echo",
    ),
    "port taken": Illness(
        lambda: [of_port(8080, "port", is_free=False)], "port", "8080", "tallygate up --port 0",
    ),
    "disk low": _of(
        lambda: replace(GATEWAY, status=changed(STATUS, disks=(Disk("10.0.0.1", 1 << 30, 100 << 30, 3_000),))),
        "disk", "broker 10.0.0.1", "df -h",
    ),
    "certificate near expiry": _of(
        lambda: saying("admin", certificates={ADMIN_PEM: NOW_S + 9 * DAY_S}),
        "certificate", "admin-0", "tallygate certs dev --renew --state-dir /state",
    ),
    "ACL denied": _in_kafka(
        lambda: replace(KAFKA, acls=[a for a in KAFKA.acls or () if not _cannot_write_outcomes(a)]),
        "acl", f"topic {OUTCOMES}",
        "kafka-acls.sh --bootstrap-server 127.0.0.1:9092 --add --allow-principal User:dispatcher"
        f" --operation Write --topic {OUTCOMES}",
    ),
    "stale configuration": _of(_stale, "configuration", "dispatcher-0", "tallygate config status"),
    "two processes with one instance id": _of(
        lambda: saying("ingress", twin_ms=NOW_MS - 2_000),
        "instance id", "ingress-0", "TALLYGATE_INSTANCE_ID=ingress-0-b tallygate ingress",
    ),
}  # fmt: skip
"""The rows of ``make doctor-rows``, as values."""

"""A process that logs in to a store as its own user can do its work, and nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import redis
from redis.exceptions import NoPermissionError

from deploy.embedded.store_users import password_of, users_file
from schemas.ledger.shards import Shards
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.valkey.bus import Bus
from schemas.store_users import BUS_USERS, LEDGER_USERS, USERS, StoreKind
from tests.support.harness.ledger_server import LedgerServer

SECRET: Final = "5e" * 32
FORBIDDEN: Final[dict[StoreKind, tuple[str, ...]]] = {
    "ledger": (
        "FLUSHALL",
        "KEYS *",
        "CONFIG SET maxmemory 1",
        "SHUTDOWN",
        "ACL LIST",
        "MONITOR",
        "DEBUG SLEEP 1",
        "REPLICAOF NO ONE",
        "CLUSTER FAILOVER TAKEOVER",
        "FUNCTION FLUSH",
        "CLIENT KILL TYPE normal",
        "RENAME {1}|meta {1}|other",
        "GET session:of:another:program",
        "SUBSCRIBE anything",
    ),
    "bus": (
        "FLUSHALL",
        "KEYS *",
        "CONFIG SET maxmemory 1",
        "SET session:of:another:program 1",
        "PUBLISH other:channel 1",
    ),
}
"""Of everybody."""
FORBIDDEN_ROLES: Final[set[tuple[StoreKind, str, str]]] = {
    ("ledger", "ingress", "SET {cfg}|lease 1"),
    ("ledger", "dispatcher", "SET {cfg}|lease 1"),
    ("ledger", "dispatcher", "SET {cfg}|batch|batch_1 1"),
    ("ledger", "ingress", "SET {cfg}|batch|batch_1 1"),
    ("ledger", "batches", "SET {cfg}|lease 1"),
    ("ledger", "accounting", "HSET {cfg}|health a b"),
    ("ledger", "ingress", "HSET {d:inference.outcomes.v1:0} offset 1"),
    ("ledger", "admin", "HSET {d:inference.outcomes.v1:0} offset 1"),
    ("ledger", "limiter_worker", "GET {dlq}|retried:1"),
    ("bus", "accounting", "GET body:req_1"),
    ("bus", "limiter_worker", "SUBSCRIBE dsp:dispatcher-0"),
}
ALLOWED_ROLES: Final[set[tuple[StoreKind, str, str]]] = {
    ("ledger", "admin", "SET {cfg}|lease 1"),
    ("ledger", "batches", "SET {cfg}|batch|batch_1 1"),
    ("ledger", "dispatcher", "HSET {cfg}|health a b"),
    ("ledger", "accounting", "HSET {d:inference.outcomes.v1:0} offset 1"),
    ("bus", "ingress", "SUBSCRIBE ing:ingress-0"),
    ("bus", "dispatcher", "GET body:req_1"),
}


def _running(folder: Path, store: StoreKind) -> LedgerServer:
    server = LedgerServer(folder / store)
    server.folder.mkdir()
    file = server.folder / "users.acl"
    file.write_text(users_file(store, SECRET))
    server.more_settings = f"aclfile {file}\n"
    server.start()
    return server


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[StoreKind, LedgerServer]]:
    """A ledger and a bus that know the users."""
    folder = tmp_path_factory.mktemp("users")
    running = {store: _running(folder, store) for store in USERS}
    yield running
    for server in running.values():
        server.kill()


def _url(server: LedgerServer, role: str) -> str:
    return server.url.replace("//", f"//{role}:{password_of(SECRET, role)}@")


def _is_allowed(server: LedgerServer, role: str, command: str) -> bool:
    with redis.Redis(port=server.port) as administrator:
        answer = administrator.execute_command("ACL", "DRYRUN", role, *command.split())
    return bool(answer == b"OK")


@pytest.mark.parametrize("role", LEDGER_USERS)
async def test_every_process_loads_the_functions_of_the_ledger_and_calls_them(
    servers: dict[StoreKind, LedgerServer], role: str
) -> None:
    """The commands inside are done in its name."""
    store = ledger_store(_url(servers["ledger"], role))
    try:
        await store.start()
        assert (await LedgerClient(store, Shards(4)).init(2)).epoch == 1
    finally:
        await store.stop()


@pytest.mark.parametrize("role", BUS_USERS)
async def test_every_process_loads_the_functions_of_the_bus(
    servers: dict[StoreKind, LedgerServer], role: str
) -> None:
    """The control plane has no business there."""
    bus = Bus(_url(servers["bus"], role))
    try:
        await bus.start()
    finally:
        await bus.stop()


@pytest.mark.parametrize("store", USERS)
def test_nobody_may_do_what_no_process_does(
    servers: dict[StoreKind, LedgerServer], store: StoreKind
) -> None:
    """Other keys, the server itself, everything at once."""
    allowed = [
        (role, command)
        for role in USERS[store]
        for command in FORBIDDEN[store]
        if _is_allowed(servers[store], role, command)
    ]

    assert allowed == []


def test_what_one_process_does_the_others_may_not(servers: dict[StoreKind, LedgerServer]) -> None:
    """Leases, reports, marks, letters, bodies and channels have their owners."""
    for store, role, command in FORBIDDEN_ROLES:
        assert not _is_allowed(servers[store], role, command), (role, command)
    for store, role, command in ALLOWED_ROLES:
        assert _is_allowed(servers[store], role, command), (role, command)


def test_a_password_is_needed_and_is_not_that_of_another(
    servers: dict[StoreKind, LedgerServer],
) -> None:
    """One leaked password is one process."""
    with (
        redis.Redis(
            port=servers["ledger"].port, username="admin", password=password_of(SECRET, "ingress")
        ) as store,
        pytest.raises(redis.AuthenticationError),
    ):
        store.ping()
    with redis.Redis.from_url(_url(servers["ledger"], "ingress")) as store:
        assert store.ping()
        with pytest.raises(NoPermissionError):
            store.flushall()

"""A stack whose processes can be told something else, whose doctor is run as a user runs it, and whose remedies are followed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from deploy.embedded.admin_tls import admin_certificates
from deploy.embedded.ledger_shape import LedgerShape
from deploy.embedded.process import ProcessSpec, output_of
from deploy.embedded.roles import EXAMPLE_BACKENDS, example_backend
from deploy.embedded.seed import EXAMPLE_MODEL, EXAMPLE_PRICES
from deploy.embedded.stack_options import StackOptions
from deploy.embedded.state import UserFolders
from schemas.runtime.kafka.access import client_options
from tests.chaos.movable_stack import MovableStack
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.running_stack import TALLYGATE

_COMMAND_WITHIN_S = 180.0
_OPERATIONS = {"read": 3, "write": 4, "describe": 8}
_TOPIC, _GROUP = 2, 3
_LITERAL, _ANY_HOST, _ALLOW = 3, "*", 3
_ENVIRONMENT = re.compile(r"[A-Z_]+=.*")


class ReStartable(MovableStack):
    """Knows its folder, and can make a process's settings anew."""

    @property
    def state_dir(self) -> Path:
        return self._options.state_dir

    def spec_of(self, name: str) -> ProcessSpec:
        """How the process is started, from what the folder has now."""
        return self._with_library(self.role_spec(name))


@dataclass
class IllStack:
    """One running stack, and its administrator."""

    stack: ReStartable
    folder: Path
    admin: httpx.AsyncClient

    @property
    def example_url(self) -> str:
        """Of an example backend."""
        return example_backend("example-a", self.stack.ports).url

    async def put(self, path: str, body: Mapping[str, Any]) -> None:
        """Write an entity."""
        (await self.admin.put(path, json=dict(body))).raise_for_status()

    async def delete(self, *paths: str) -> None:
        """Delete entities, in this order."""
        for path in paths:
            (await self.admin.delete(path)).raise_for_status()

    async def key(self, org: str, limits: Mapping[str, Any]) -> str:
        """A key of a new organization with these limits; the key itself has none."""
        await self.put(f"/orgs/{org}", {"limits": dict(limits)})
        wide = {"requests_per_s": 100_000, "burst": 100_000}
        body = {"org": org, "name": "test", "limits": wide}
        made = (await self.admin.post("/keys", json=body)).raise_for_status().json()
        return str(made["key"])

    async def fill(self) -> None:
        """Both example backends, and the model that they serve."""
        for name in EXAMPLE_BACKENDS:
            await self.put(
                f"/backends/{name}", {"url": example_backend(name, self.stack.ports).url}
            )
        targets = [{"backend": name, "weight": 1} for name in EXAMPLE_BACKENDS]
        await self.put(f"/models/{EXAMPLE_MODEL}", {"backends": targets, **EXAMPLE_PRICES})

    @asynccontextmanager
    async def told(self, name: str, **settings: str) -> AsyncIterator[None]:
        """A process that is started anew with other settings, and after it with its own."""
        process = self.stack.processes[name]
        own = process.spec
        process.spec = replace(own, environment={**own.environment, **settings})
        await process.restart()
        try:
            yield
        finally:
            process.spec = own
            await process.restart()

    async def renew_admin(self) -> None:
        """Start the control plane with the certificates that are there now, and come with those."""
        self.stack.admin_tls = admin_certificates(self.stack.state_dir)
        process = self.stack.processes["admin-0"]
        await process.stop()
        process.spec = self.stack.spec_of("admin-0")
        await process.start()
        await self.admin.aclose()
        self.admin = client_of(self.stack)

    @asynccontextmanager
    async def brokers(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """Kafka's own administrator."""
        admin = AIOKafkaAdminClient(**client_options(self.stack.kafka_brokers))
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def forbid(self, user: str, operation: str, topic: str) -> None:
        """Take an entry out of Kafka's access control list."""
        entry = (_TOPIC, topic, _LITERAL, f"User:{user}", "*", _OPERATIONS[operation], _ALLOW)
        answer = await self._acl(DeleteAclsRequest(*entry))
        for code, message, gone in answer.filter_responses:
            if code or not gone:
                raise for_code(code)(message or "nothing was taken out")

    async def _acl(self, request: Any) -> Any:
        client = AIOKafkaClient(**client_options(self.stack.kafka_brokers))
        try:
            await client.bootstrap()
            node = client.get_random_node()
            while not await client.ready(node):  # noqa: ASYNC110  # aiokafka has no event for it
                await asyncio.sleep(0.1)
            return await client.send(node, request)
        finally:
            await client.close()

    async def doctor(self, *, is_elsewhere: bool = False) -> list[dict[str, Any]]:
        """What it finds: the checks that are not well."""
        _, said = await self.command("doctor", "--json", is_elsewhere=is_elsewhere)
        return [check for check in json.loads(said)["checks"] if not check["ok"]]

    async def command(self, *words: str, is_elsewhere: bool = False) -> tuple[int, str]:
        """A command as the owner of the stack types it; elsewhere, where no gateway is known."""
        own = {"XDG_STATE_HOME": str(self.folder / "elsewhere")}
        if not is_elsewhere:
            own |= {"TALLYGATE_ADMIN_URL": self.stack.admin_url}
            own |= {"TALLYGATE_KAFKA_BROKERS": self.stack.kafka_brokers}
            if self.stack.admin_tls is not None:
                own |= self.stack.admin_tls.of_client()
        process = await asyncio.create_subprocess_exec(
            str(TALLYGATE), *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **own},
        )  # fmt: skip
        out, story = await output_of(process, _COMMAND_WITHIN_S)
        if story and process.returncode not in (0, 1, 3):
            print(story.decode(), file=sys.stderr)
        return process.returncode or 0, out.decode()

    async def follow(self, run: str) -> None:
        """Do what a finding says, word for word; for programs that are not here, by their protocols."""
        for part in run.partition("  #")[0].split(" && "):
            words = [word for word in shlex.split(part) if not _ENVIRONMENT.fullmatch(word)]
            match words:
                case ["tallygate", *rest]:
                    code, _ = await self.command(*rest)
                    assert code in (0, 3), part
                case ["valkey-cli", "-p", port, *rest]:
                    assert int(port) in self.stack.ports.values()
                    with open_foreign(self.stack.ledger_url) as store:
                        store.execute_command(*rest)
                case ["kafka-topics.sh", *_, "--delete", "--topic", topic]:
                    async with self.brokers() as admin:
                        await admin.delete_topics([topic])
                case ["kafka-acls.sh", *_, "--allow-principal", who, "--operation", op, kind, name]:
                    resource = {"--topic": _TOPIC, "--group": _GROUP}[kind]
                    entry = (resource, name, _LITERAL, who, "*", _OPERATIONS[op.lower()], _ALLOW)
                    answer = await self._acl(CreateAclsRequest(*entry))
                    assert [code for code, _ in answer.creation_responses] == [0]
                case _:
                    raise AssertionError(f"nobody here can do this: {part}")


def client_of(stack: ReStartable) -> httpx.AsyncClient:
    """The administrator of a stack."""
    tls = stack.admin_tls.client_context() if stack.admin_tls else False
    return httpx.AsyncClient(base_url=stack.admin_url, timeout=30, trust_env=False, verify=tls)


@asynccontextmanager
async def ill_stack(folder: Path, *, is_guarded: bool) -> AsyncIterator[IllStack]:
    """A stack with both example backends: alone, or a cluster on which nobody may more than he needs."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # before anything runs
    options = StackOptions(
        state_dir=folder / "state",
        cache_dir=UserFolders().cache,
        environment=dict(os.environ),
        ledger=LedgerShape(3, 0) if is_guarded else None,
        has_mtls=is_guarded,
        has_kafka_users=is_guarded,
        has_store_users=is_guarded,
        has_random_ports=True,
    )
    stack = ReStartable(options, folder)
    try:
        await stack.start()
        ill = IllStack(stack, folder, client_of(stack))
        await ill.fill()
        yield ill
        await ill.admin.aclose()
    finally:
        await stack.stop()

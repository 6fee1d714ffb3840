"""The embedded stack: Kafka, the stores, the six processes and two example backends as one thing.

Invariants: everything started is stopped by `stop`, also after a start that failed half-way; the
stores outlive the processes that use them; a second stack on the same state folder is refused.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from deploy.embedded import roles
from deploy.embedded.admin_tls import (
    AdminCertificates,
    admin_certificates,
    ensure_admin_certificates,
)
from deploy.embedded.brokers import Brokers, broker_ports
from deploy.embedded.cluster import form_cluster
from deploy.embedded.config_keys import signer_of_stack
from deploy.embedded.disk_report import report_disk
from deploy.embedded.kafka import kafka_spec
from deploy.embedded.kafka_jars import ensure_jars, jar_folder
from deploy.embedded.kafka_users import OPERATOR, KafkaUsers, allow_users
from deploy.embedded.ledger_shape import LedgerShape, ledger_ports
from deploy.embedded.ports import HOST, PortChoice, PortReservations, choose_ports
from deploy.embedded.probes import is_ledger_open
from deploy.embedded.problem import StackError
from deploy.embedded.process import ProcessSpec, Progress, SupervisedProcess, together
from deploy.embedded.stack_options import StackOptions, remembered
from deploy.embedded.state import Memory, StateFolder
from deploy.embedded.stores import Stores
from deploy.embedded.tls import ensure_certificates
from deploy.embedded.valkey import bus_spec, ledger_specs, store_program
from schemas.runtime.kafka.topic_admin import PartitionCountChanged, apply_topics

_LEDGER_OPEN_WITHIN_S = 30.0
_LOOK_S = 0.2


class Stack:
    """Starts and stops everything; `processes` holds what runs, by name, in starting order."""

    def __init__(
        self,
        options: StackOptions,
        report: Callable[[Progress], None],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.processes: dict[str, SupervisedProcess] = {}
        self.ports: Mapping[str, int] = {}
        self.replicas = {
            role: options.replicas.get(role, roles.usual_replicas(role, options.environment))
            for role in roles.ROLES
        }
        """How many of each role run."""
        self._options = options
        self._report = report
        self._random_bytes = random_bytes
        self._reservations = PortReservations(Path(tempfile.gettempdir()) / "tallygate-ports")
        self._folder: StateFolder | None = None
        self._memory: Memory | None = None
        self._stores: Stores | None = None
        self._brokers: Brokers | None = None
        self.admin_tls: AdminCertificates | None = None
        """Certificates of the admin port; ``None`` while it is plain HTTP."""
        self._disk_report: asyncio.Task[None] | None = None

    @property
    def api_urls(self) -> tuple[str, ...]:
        """What a client uses as OPENAI_BASE_URL, of each ingress."""
        return tuple(f"http://{HOST}:{self.ports[n]}/v1" for n in self._replicas("ingress"))

    @property
    def admin_urls(self) -> tuple[str, ...]:
        """Of each control plane."""
        scheme = "http" if self.admin_tls is None else "https"
        names = self._replicas("admin")
        return tuple(f"{scheme}://{HOST}:{self.ports[name]}/admin/v1" for name in names)

    @property
    def api_url(self) -> str:
        """That of the first ingress."""
        return self.api_urls[0]

    @property
    def grpc_address(self) -> str:
        """Where the same API is over gRPC."""
        return f"{HOST}:{self.ports[roles.grpc_of('ingress-0')]}"

    @property
    def admin_url(self) -> str:
        """That of the first control plane."""
        return self.admin_urls[0]

    @property
    def partitions(self) -> int:
        """Of each topic; workers share them."""
        return self._options.partitions

    @property
    def kafka_brokers(self) -> str:
        return self.brokers.address_of(OPERATOR)

    @property
    def brokers(self) -> Brokers:
        """Only after `start` began."""
        assert self._brokers is not None, "start() comes first"
        return self._brokers

    @property
    def ledger_url(self) -> str:
        return self.stores.ledger_url

    @property
    def bus_url(self) -> str:
        return self.stores.bus_url

    @property
    def stores(self) -> Stores:
        """Ledger and bus; only after `start` began."""
        assert self._stores is not None, "start() comes first"
        return self._stores

    @property
    def worker_urls(self) -> tuple[str, ...]:
        """Where the workers serve /metrics, /livez and /readyz."""
        names = [n for role in roles.ROLE_PORTS for n in self._replicas(role)]
        return tuple(f"http://{HOST}:{self.ports[name]}" for name in names)

    @property
    def memory(self) -> Memory:
        """What this stack remembers between starts; only after `start` began."""
        assert self._memory is not None, "start() comes first"
        return self._memory

    @property
    def ledger(self) -> LedgerShape:
        """How many servers carry it; only after `start` began."""
        return LedgerShape(self.memory.ledger_primaries, self.memory.ledger_replicas)

    def remember_signed(self) -> None:
        """All that is in force is signed: from the next start on, nothing else is believed."""
        self._remember(replace(self.memory, is_config_signed=True))

    def remember_first_key(self, key: str) -> None:
        """Keep the first key's secret, so that the next start can show it again."""
        self._remember(replace(self.memory, first_key=key))

    def pid(self, name: str) -> int | None:
        """The pid of a named process, or None between a death and its restart."""
        return self.processes[name].pid

    async def restart(self, name: str) -> None:
        """Stop one process in order and start it again on the same ports. Raises StackError when it does not start."""
        process = self.processes[name]
        await process.stop()
        spec = self.role_spec(name) if roles.role_of(name) in self.replicas else process.spec
        await self._start_all([spec])

    async def scale(self, wanted: Mapping[str, int]) -> None:
        """Start or stop processes until there are so many of each role, one at a time; the last of a role goes first.

        Roles that are not mentioned stay. Raises StackError when one does not start: those before it run.
        """
        for role in reversed(roles.ROLES):
            while self.replicas[role] < wanted.get(role, 0):
                await self._add(f"{role}-{self.replicas[role]}")
                self.replicas[role] += 1
            while self.replicas[role] > wanted.get(role, self.replicas[role]):
                self.replicas[role] -= 1
                name = f"{role}-{self.replicas[role]}"
                await self._remove(name)
                self._report(Progress(name, True, "stopped"))

    async def _add(self, name: str) -> None:
        if name not in self.ports:  # What it had before is still promised to us.
            chosen = self._choose(roles.ports_of(name), {})
            self.ports = {**self.ports, **chosen.ports}
            self._remember_ports(chosen)
        try:
            await self._start_all([self.role_spec(name)])
        except StackError:
            await self._remove(name)
            raise

    async def _remove(self, name: str) -> None:
        await self.processes[name].stop()
        del self.processes[name]

    async def start(self) -> None:
        """Start everything; returns when all of it is ready.

        Raises StackError. Whatever was started by then keeps running until `stop`.
        """
        self._folder = StateFolder.claim(self._options.state_dir)
        known = self._folder.memory()
        self._memory = remembered(self._options, known, self._random_bytes)
        choice = self._choose_ports()
        self.ports = choice.ports
        self._remember_ports(choice)
        self._stores = await self._prepare_stores(self._folder)
        self._brokers = await self._prepare_brokers(self._folder)
        if self._options.has_mtls:
            await asyncio.to_thread(ensure_admin_certificates, self._folder.path)
            self.admin_tls = admin_certificates(self._folder.path)
        await self._start_infrastructure(self._folder)
        kafka_data = self._folder.path / "kafka"
        self._disk_report = asyncio.create_task(report_disk(kafka_data, HOST, self.ledger_url))
        if not self._options.is_infrastructure_only:
            await self._apply_topics()
            names = [n for role in reversed(roles.ROLES) for n in self._replicas(role)]
            await self._start_all(map(self.role_spec, names))
            await self._until_ledger_open()

    async def stop(self) -> None:
        """Stop everything, users before what they use; safe to call at any time, and twice."""
        if self._disk_report is not None:
            self._disk_report.cancel()
            await asyncio.wait([self._disk_report])
        stages = [
            [name for name in self.processes if roles.role_of(name) == role] for role in roles.ROLES
        ]
        ledger = self.ledger.names if self._memory is not None else ()
        brokers = [] if self._brokers is None else [*self._brokers.names]
        stages += [[*roles.EXAMPLE_BACKENDS], [*ledger, "bus"], brokers]
        for stage in stages:
            running = [self.processes[name] for name in stage if name in self.processes]
            await asyncio.gather(*(process.stop() for process in running))
        self.processes.clear()
        self._reservations.release()
        if self._folder is not None:
            self._folder.release()

    def kill(self) -> None:
        """SIGKILL everything at once."""
        for process in self.processes.values():
            process.kill()

    def _choose_ports(self) -> PortChoice:
        options = self._options
        preferred = broker_ports(self.memory.brokers) | roles.BUS_PORT
        preferred |= ledger_ports(self.ledger)
        if not options.is_infrastructure_only:
            preferred |= roles.preferred_ports(self.replicas)
            if options.has_example_backends:
                preferred |= roles.EXAMPLE_PORTS
        return self._choose(preferred, options.explicit_ports)

    def _choose(self, preferred: Mapping[str, int], explicit: Mapping[str, int]) -> PortChoice:
        options, memory = self._options, self.memory
        # Who takes any port for the API takes any for the rest: stacks that start side by side would
        # otherwise find the same usual ports free, and bind them only seconds later.
        if options.has_random_ports or options.explicit_ports.get("ingress-0") == 0:
            preferred = dict.fromkeys(preferred, 0)
        if not options.has_random_ports:
            preferred = {name: memory.ports.get(name, port) for name, port in preferred.items()}
        rng = random.Random(self._random_bytes(8))  # noqa: S311 - ports are no secrets
        return choose_ports(preferred, explicit, rng, self._reservations.take)

    def _remember_ports(self, choice: PortChoice) -> None:
        for name, wanted, chosen in choice.moved:
            self._report(Progress(name, True, f"port {wanted} is taken; using {chosen}"))
        kept = {} if self._options.has_random_ports else choice.ports
        self._remember(replace(self.memory, ports={**self.memory.ports, **kept}))

    async def _start_infrastructure(self, folder: StateFolder) -> None:
        environment, ports = self._options.environment, self.ports
        specs = [bus_spec(self.stores, folder, environment)]
        if self._options.has_example_backends and not self._options.is_infrastructure_only:
            specs += [
                roles.example_backend_spec(name, folder, ports, environment)
                for name in roles.EXAMPLE_BACKENDS
            ]
        if not jar_folder(self._options.cache_dir).is_dir():
            self._report(Progress("kafka", True, "downloading 45 MB, once"))
        jars = await ensure_jars(self._options.cache_dir)
        cluster_id, brokers = self.memory.cluster_id, self.brokers
        specs += [
            await kafka_spec(number, folder, jars, cluster_id, brokers, environment)
            for number in range(brokers.count)
        ]
        await together(self._start_all(specs), self._start_ledger(folder))
        await brokers.together(OPERATOR)

    async def _prepare_brokers(self, folder: StateFolder) -> Brokers:
        users = None
        if self._options.has_kafka_users:
            made = await asyncio.to_thread(ensure_certificates, folder.path / "kafka-tls")
            users = KafkaUsers(made, self.memory.store_secret)
        return Brokers(self.memory.brokers, self.ports, users)

    async def _prepare_stores(self, folder: StateFolder) -> Stores:
        has_tls = self._options.has_store_tls
        program = store_program(self._options.store_program, has_tls=has_tls)
        certificates = None
        if has_tls:
            certificates = await asyncio.to_thread(ensure_certificates, folder.path / "tls")
        secret = self.memory.store_secret if self._options.has_store_users else ""
        return Stores(self.ledger, self.ports, program, certificates, secret)

    async def _start_ledger(self, folder: StateFolder) -> None:
        await self._start_all(ledger_specs(self.stores, folder, self._options.environment))
        nodes, primaries = self.stores.nodes, self.ledger.primaries
        if not nodes:
            return
        started_s = asyncio.get_running_loop().time()
        await form_cluster(nodes[:primaries], nodes[primaries:], self.stores.url)
        seconds = asyncio.get_running_loop().time() - started_s
        self._report(Progress("ledger", True, str(self.ledger), seconds))

    async def _start_all(self, specs: Iterable[ProcessSpec]) -> None:
        started = [SupervisedProcess(spec, self._report) for spec in specs]
        self.processes |= {process.spec.name: process for process in started}
        await together(*(process.start() for process in started))

    async def _until_ledger_open(self) -> None:
        """A ledger that was restarted is made again from the log, and ingress has to hear of it. One that
        stays closed needs an operator, who needs the stack."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEDGER_OPEN_WITHIN_S):
                for name in self._replicas("ingress"):
                    while not await is_ledger_open(self.ports[name]):  # noqa: ASYNC110  # another process
                        await asyncio.sleep(_LOOK_S)

    async def _apply_topics(self) -> None:
        started_s = asyncio.get_running_loop().time()
        try:
            await apply_topics(
                self.kafka_brokers,
                self._options.partitions,
                self.brokers.copies,
                signer=signer_of_stack(self.memory, "admin"),
            )
            if self.brokers.users is not None:
                await allow_users(self.kafka_brokers)
        except PartitionCountChanged as error:
            raise StackError(
                f"the topics in {self._options.state_dir} have another shape",
                str(error),
                "start with the number of partitions they were created with, or a new --state-dir",
            ) from error
        seconds = asyncio.get_running_loop().time() - started_s
        text = f"{self._options.partitions} partitions each"
        self._report(Progress("topics", True, text, seconds))

    def role_spec(self, name: str) -> ProcessSpec:
        """How to run one of the six processes; only after `start` began."""
        assert self._folder is not None, "start() comes first"
        environment = self._options.environment
        return roles.role_spec(
            name,
            self._folder,
            self.ports,
            self.brokers.address_of(roles.role_of(name)),
            self.stores,
            self.memory,
            environment,
            self.admin_tls,
        )

    def _replicas(self, role: str) -> tuple[str, ...]:
        return roles.replica_names(role, self.replicas)

    def _remember(self, memory: Memory) -> None:
        assert self._folder is not None, "start() comes first"
        self._memory = memory
        self._folder.remember(memory)

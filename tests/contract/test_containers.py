"""Everything docker-compose.yml names exists in the code: settings, commands, ports, paths."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from accounting.settings import AccountingSettings
from deploy.cli.commands.topics import SIGNING_KEY
from deploy.cli.reference import command_tree
from deploy.desired_state.document import read_desired_state
from deploy.docker.ready import is_ready
from deploy.embedded import example_backend, roles
from deploy.embedded.environment import variables_of
from deploy.embedded.ports import choose_ports
from dispatcher.settings import DispatcherSettings
from ingress.admin.config.entities import KIND_OF_PATH
from ingress.admin.settings import AdminSettings
from ingress.batches.settings import BatchesSettings
from ingress.settings import IngressSettings
from limiter_worker.settings import LimiterSettings
from schemas.config_state import ConfigState
from schemas.events import ConfigEntry
from schemas.readiness import READYZ
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.secret_files import FILE
from schemas.runtime.process.settings import ProcessSettings, WorkerSettings
from schemas.runtime.process.status_pages import StatusPages
from schemas.runtime.process.telemetry import Metrics
from tests.contract.container_files import (
    COMPOSE_FILE,
    DOCKER,
    compose,
    environment,
    image_environment,
    services,
)
from tests.support.command_line import parsed

PROCESSES: dict[str, type[ProcessSettings]] = {
    "admin": AdminSettings,
    "ingress": IngressSettings,
    "batches": BatchesSettings,
    "limiter": LimiterSettings,
    "dispatcher": DispatcherSettings,
    "accounting": AccountingSettings,
}
"""The services that run a process, and what it is told by its environment."""

COMMANDS = ("topics-init", "config-init")
KEYS = "config-keys"
OBSERVERS = ("prometheus", "grafana", "collector")
MOCKS = ("mock-a", "mock-b")


def process_settings(monkeypatch: pytest.MonkeyPatch, name: str) -> ProcessSettings:
    """The settings that the process of a service would read."""
    for variable in os.environ:
        monkeypatch.delenv(variable)
    for variable, text in {**image_environment(), **environment(services()[name])}.items():
        monkeypatch.setenv(variable, text)
    return PROCESSES[name]()


def status_port(settings: ProcessSettings) -> int:
    """The port on which the process tells whether it is ready."""
    if isinstance(settings, AdminSettings):
        return settings.admin_port
    if isinstance(settings, IngressSettings):
        return settings.port
    assert isinstance(settings, WorkerSettings | BatchesSettings)
    return settings.http_port


def asked_url(name: str) -> str:
    """The address that the health check of a service asks."""
    *probe, url = services()[name]["healthcheck"]["test"]
    assert probe == ["CMD", "python", "-m", "deploy.docker.ready"]
    return str(url)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_told_everything_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are complete and valid, and it listens where other containers reach it."""
    settings = process_settings(monkeypatch, name)

    assert settings.host == "0.0.0.0"
    assert settings.data_dir == Path(services()[name]["volumes"][0].partition(":")[2])


@pytest.mark.parametrize("name", [*PROCESSES, *COMMANDS])
def test_every_variable_is_one_that_somebody_reads(name: str) -> None:
    """A misspelt variable would be ignored in silence."""
    known = {one.variable for found in command_tree() for one in found.parameters}
    if name in PROCESSES:
        known |= variables_of(PROCESSES[name])

    told = set(environment(services()[name]))
    assert {variable.removesuffix(FILE) for variable in told} <= known | {SIGNING_KEY}
    assert name in ("admin", "accounting", "topics-init") or SIGNING_KEY + FILE not in told


def test_every_replica_has_a_name_and_a_volume_of_its_own() -> None:
    """Two with one name would share partitions and the copy of the configuration."""
    ours = [services()[name] for name in PROCESSES]
    names = [service["environment"]["TALLYGATE_INSTANCE_ID"] for service in ours]
    volumes = [service["volumes"][0].partition(":")[0] for service in ours]

    assert len(set(names)) == len(names)
    assert volumes == names


@pytest.mark.parametrize("name", [*PROCESSES, *COMMANDS])
def test_every_command_is_understood(name: str) -> None:
    """The real command line parses it."""
    command = services()[name]["command"]
    words, _ = parsed(command)

    assert " ".join(["tallygate", *command]).startswith(words)


@pytest.mark.parametrize("name", MOCKS)
def test_a_mock_backend_serves_the_model_that_is_routed_to_it(name: str) -> None:
    """On the port and under the name that the desired state gives."""
    service = services()[name]
    options = example_backend.create_parser().parse_args(service["command"])
    backends = {e.id: e.body for e in read_desired_state(DOCKER / "tallygate.yaml")}

    assert importlib.util.find_spec(service["entrypoint"][-1]) is not None
    assert service["entrypoint"][:-1] == ["python", "-m"]
    assert (options.host, options.name) == ("0.0.0.0", name)
    assert backends[name]["url"] == f"http://{name}:{options.port}/v1"
    assert name in {target["backend"] for target in backends[example_backend.MODEL]["backends"]}
    assert asked_url(name) == f"http://127.0.0.1:{options.port}/v1/models"


def test_the_desired_state_is_valid() -> None:
    """Every entity is in force: fields, amounts and references."""
    state = ConfigState()
    for offset, entity in enumerate(read_desired_state(DOCKER / "tallygate.yaml")):
        entry = ConfigEntry(
            kind=KIND_OF_PATH[entity.kind],
            id=entity.id,
            version=1,
            body=json.dumps(entity.body),
            written_at_ms=0,
            written_by="test",
        )
        assert state.apply(entry, offset) is None
    snapshot = state.snapshot()

    assert snapshot.problems == ()
    assert set(snapshot.models) == {example_backend.MODEL}
    assert snapshot.prices[example_backend.MODEL] is not None
    assert set(snapshot.organizations) == {"demo"}


def test_the_seeding_container_reaches_the_admin_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """The admin API answers loopback only, so its callers share the network of the control plane."""
    seeding, admin = services()["config-init"], services()["admin"]
    url = f"http://127.0.0.1:{status_port(process_settings(monkeypatch, 'admin'))}"
    source, target, _ = seeding["volumes"][0].split(":")

    assert seeding["network_mode"] == "service:admin"
    assert seeding["environment"]["TALLYGATE_ADMIN_URL"] == url
    assert admin["environment"]["TALLYGATE_ADMIN_URL"] == url
    assert (COMPOSE_FILE.parent / source).samefile(DOCKER / "tallygate.yaml")
    assert target in seeding["command"]


@pytest.mark.parametrize("name", PROCESSES)
def test_a_health_check_asks_the_process_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its own port, under the path that it serves."""
    path = READYZ if name in ("admin", "ingress") else "/readyz"
    port = status_port(process_settings(monkeypatch, name))

    assert asked_url(name) == f"http://127.0.0.1:{port}{path}"


@pytest.mark.parametrize(("state", "expected"), [("ok", True), ("not connected", False)])
async def test_the_health_check_tells_ready_from_not_ready(state: str, expected: bool) -> None:
    """Against the status pages of a worker."""
    port = choose_ports({"pages": 0}, {}, random.Random()).ports["pages"]
    pages = StatusPages("127.0.0.1", port, lambda: {"ledger": state}, Metrics(), Clock())
    await pages.start()
    try:
        found = await asyncio.to_thread(is_ready, f"http://127.0.0.1:{port}/readyz")
    finally:
        await pages.stop()

    assert found is expected


def test_the_health_check_survives_a_port_without_a_server() -> None:
    """Not ready is an answer, not a traceback."""
    port = choose_ports({"nobody": 0}, {}, random.Random()).ports["nobody"]

    assert is_ready(f"http://127.0.0.1:{port}/readyz") is False


def test_the_start_order_names_services_that_can_meet_it() -> None:
    """Healthy needs a health check; completed needs a service that ends."""
    known = services()
    for service in known.values():
        for name, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "test" in known[name]["healthcheck"]
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert known[name]["restart"] == "no"


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_starts_after_what_it_needs(name: str) -> None:
    """Topics exist and its stores answer; a topic is not created by the first who writes to it."""
    bus = set() if name == "admin" else {"bus"}
    assert set(services()[name]["depends_on"]) == {"topics-init", "ledger"} | bus
    assert set(services()["topics-init"]["depends_on"]) == {"kafka", KEYS}


def test_addresses_are_services_and_their_ports() -> None:
    """What the processes are told is where Kafka and the stores listen."""
    known = services()
    advertised = known["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    for name in PROCESSES:
        told = environment(known[name])
        assert f"BROKER://{told['TALLYGATE_KAFKA_BROKERS']}" in advertised
        # 6379 is where Valkey listens unless told otherwise.
        stores = {"ledger": "TALLYGATE_LEDGER_URL"}
        if name != "admin":
            stores["bus"] = "TALLYGATE_BUS_URL"
        for store, variable in stores.items():
            assert urlsplit(told[variable]).netloc == f"{store}:6379"
            assert "--port" not in known[store]["command"]


def test_only_this_machine_reaches_what_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is encrypted here. The stores, the admin API and the status pages stay inside."""
    published = {name: s["ports"] for name, s in services().items() if "ports" in s}
    settings = process_settings(monkeypatch, "ingress")

    assert isinstance(settings, IngressSettings)
    assert published == {
        "ingress": [
            f"127.0.0.1:8080:{status_port(settings)}",
            f"127.0.0.1:8081:{settings.grpc_port}",
        ],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_no_service_is_given_a_secret_of_another() -> None:
    """The pepper is for who makes keys and who tells them, and the key of a backend for the dispatcher."""
    given = {name: set(service.get("environment", {})) for name, service in services().items()}
    files = [name for name, service in services().items() if "env_file" in service]

    peppered = {name for name, seen in given.items() if "TALLYGATE_KEY_PEPPER" in seen}
    assert peppered == {"admin", "ingress"}
    for name, seen in given.items():
        assert name == "dispatcher" or not any(v.endswith("_API_KEY") for v in seen)
    assert files == []


def test_one_service_builds_the_image_and_nobody_pulls_it() -> None:
    """A name that is only ours must not be asked for in a registry."""
    known = services().values()
    ours = [service for service in known if service["image"].startswith("tallygate:")]
    building = [service for service in ours if "build" in service]

    assert [service["pull_policy"] for service in building] == ["build"]
    assert {s["pull_policy"] for s in ours if s not in building} == {"never"}
    assert (COMPOSE_FILE.parent / building[0]["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", [*PROCESSES, *COMMANDS, *MOCKS, KEYS])
def test_our_containers_can_do_little(name: str) -> None:
    """No capabilities, no way to new ones, nothing to write but their volume."""
    service = services()[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_volumes_are_declared_and_used() -> None:
    """What must outlive a container has a name."""
    mounts = [mount for service in services().values() for mount in service.get("volumes", [])]
    named = {mount.partition(":")[0] for mount in mounts if not mount.startswith(".")}

    assert named == set(compose()["volumes"])
    assert {"kafka", "ledger"} < named


def test_no_secret_has_a_default() -> None:
    """Whoever starts it gives the pepper; without it compose refuses to start. What is not needed is empty."""
    variables = re.findall(r"\$\{(\w+)(:\?|:-(?=\}))?", COMPOSE_FILE.read_text(encoding="utf-8"))

    assert set(variables) == {
        ("TALLYGATE_KEY_PEPPER", ":?"),
        ("TALLYGATE_KEY_PEPPER_PREVIOUS", ":-"),
        ("TALLYGATE_SIGNING_PEPPER", ":-"),
        ("TALLYGATE_SIGNING_PEPPER_PREVIOUS", ":-"),
        ("TALLYGATE_WEBHOOK_PEPPER", ":-"),
        ("TALLYGATE_WEBHOOK_PEPPER_PREVIOUS", ":-"),
    }


def test_every_service_is_one_we_know() -> None:
    """A new one gets the tests above by being named there."""
    others = {KEYS, *OBSERVERS, "kafka", "ledger", "bus"}
    assert set(services()) == {*PROCESSES, *COMMANDS, *MOCKS, *others}
    assert {f"{name}-0" for name in roles.ROLES} == {
        service["environment"]["TALLYGATE_INSTANCE_ID"]
        for service in (services()[name] for name in PROCESSES)
    }

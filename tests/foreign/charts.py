"""`make helm`: the chart is linted and rendered by Helm itself for both value files, and what comes out is judged.

By Kubernetes' own schemas of two versions, and by the settings of the processes: each is told what its pod would be told, with
secrets drawn here, and must have nothing to say against it in production. Kinds whose schema no package has are named. Mistakes in
values must be refused. Exit code 1 when anything is wrong, also when Helm cannot be had.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.embedded.admin_tls import ensure_admin_certificates
from deploy.embedded.tls import ensure_certificates
from schemas.config_signing import SignerName, read_signer
from tests.foreign.packages import HELM, KUBERNETES_VALIDATE, go_program, python_with
from tests.foreign.pods import Secrets, names_of_secrets, settings_problems, weak_containers

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
CHART: Final = DEPLOY / "helm" / "tallygate"
FILES: Final = ("values-staging.yaml", "values-production.yaml")
VERSIONS: Final = ("1.31", "1.36")
_OF_CUSTOM_KINDS: Final = ("kafka.strimzi.io", "keda.sh", "monitoring.coreos.com")
_DISPATCHER: Final = "processes.dispatcher.autoscaling"
MISTAKES: Final[Mapping[str, tuple[list[str], str]]] = {
    "a pepper among settings": (
        ["--set-string", "settings.TALLYGATE_KEY_PEPPER=x"],
        "TALLYGATE_KEY_PEPPER is a secret",
    ),
    "a password in an address": (
        ["--set-string", "ledger.url=rediss://ledger:hunter2@ledger:6379/0"],
        "/ledger/url",
    ),
    "a variable that nobody reads": (
        ["--set-string", "settings.TALLYGATE_DRIAN_S=20"],
        "no process reads TALLYGATE_DRIAN_S",
    ),
    "a backend's key for another process": (
        ["--set-json", 'processes.ingress.secrets={"BACKEND_A_API_KEY":{"secret":"a","key":"b"}}'],
        "processes.ingress: it reads no BACKEND_A_API_KEY",
    ),
    "more workers than partitions": (
        ["--set", f"{_DISPATCHER}.kind=lag,{_DISPATCHER}.max=99,keda.bootstrapServers=k:9093"],
        "is above topics.partitions",
    ),
    "a word that does not exist": (["--set", "processes.ingress.replica=3"], "replica"),
    "ingress that grows with a lag": (
        ["--set", "processes.ingress.autoscaling.kind=lag"],
        "/processes/ingress/autoscaling/kind",
    ),
    "an admin port without roles": (
        ["--set-string", "processes.admin.roles="],
        "processes.admin.roles",
    ),
}
"""What is wrong, how it is said, and what the answer must say."""


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """A tool, within two minutes."""
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def watching_problems(documents: list[dict[str, Any]]) -> Iterator[str]:
    """Rules and dashboards that are not, word for word, those that are tested beside Prometheus."""
    wanted = [
        group
        for name in ("recording", "alerts")
        for group in yaml.safe_load((DEPLOY / f"prometheus/{name}.yml").read_text())["groups"]
    ]
    found = [d["spec"]["groups"] for d in documents if d["kind"] == "PrometheusRule"]
    if any(groups != wanted for groups in found):
        yield "other rules"
    boards = {path.name: path.read_text() for path in (DEPLOY / "grafana").glob("*.json")}
    maps = [d["data"] for d in documents if d["kind"] == "ConfigMap"]
    told = {name: text for data in maps for name, text in data.items() if name.endswith(".json")}
    if told not in ({}, boards):
        yield "other dashboards"


class Trial:
    """One run over the chart; every problem is told and counted."""

    def __init__(self, helm: Path, python: Path | None, folder: Path) -> None:
        self.helm, self.python, self.folder = str(helm), python, folder
        self.problems = 0

    def tell(self, what: str, problem: str = "") -> None:
        """A line; a problem makes it a bad one."""
        self.problems += bool(problem)
        print(f"{'PROBLEM' if problem else 'ok     '} {what}{': ' if problem else ''}{problem}")

    def file(self, name: str, keys: Secrets) -> None:
        """Everything about one file of values."""
        values = ["--values", str(CHART / name)]
        lint = run([self.helm, "lint", "--strict", str(CHART), *values])
        told = " ".join((lint.stdout + lint.stderr).split())
        self.tell(f"{name}: helm lint --strict: {told[-60:]}", told if lint.returncode else "")
        done = run([self.helm, "template", "gate", str(CHART), "--namespace", "gateway", *values])
        if done.returncode:
            self.tell(f"{name}: helm template", done.stderr.strip())
            return
        documents = [each for each in yaml.safe_load_all(done.stdout) if each]
        kinds = [str(each["kind"]) for each in documents]
        counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        self.tell(f"{name}: helm template: {len(documents)} documents: {counted}")
        self.judge(name, documents, keys)
        if self.python is not None:
            for version in VERSIONS:
                self.validate(name, documents, version)

    def judge(self, name: str, documents: list[dict[str, Any]], keys: Secrets) -> None:
        """What the documents say, by rules of ours."""
        weak = list(weak_containers(documents))
        self.tell(
            f"{name}: no root, no capabilities, nothing to write to, seccomp", "; ".join(weak)
        )
        shown = watching_problems(documents)
        self.tell(f"{name}: rules and dashboards are those of deploy", "; ".join(shown))
        secret = "a Secret is rendered" if "Secret" in {d["kind"] for d in documents} else ""
        self.tell(f"{name}: no secret, but the names of {len(names_of_secrets(documents))}", secret)
        for role, problem in settings_problems(documents, keys):
            self.tell(f"{name}: {role} would start in production", problem)

    def validate(self, name: str, documents: list[dict[str, Any]], version: str) -> None:
        """By Kubernetes' schemas, those that a package has."""
        known = [d for d in documents if not d["apiVersion"].startswith(_OF_CUSTOM_KINDS)]
        file = self.folder / f"{version}-{name}"
        file.write_text(yaml.safe_dump_all(known), encoding="utf-8")
        done = run(
            [str(self.python), "-m", "kubernetes_validate", "--strict", "-k", version, str(file)]
        )
        told = " ".join((done.stdout + done.stderr).split())[-300:]
        what = f"{name}: {len(known)} documents against Kubernetes {version}"
        self.tell(what, told or "no schemas" if done.returncode else "")
        left = sorted({d["kind"] for d in documents if d not in known})
        print(f"        NOT VALIDATED, no package has their schemas: {', '.join(left)}")

    def mistakes(self) -> None:
        """Each must be refused with its sentence."""
        values = ["--values", str(CHART / FILES[0])]
        for what, (options, wanted) in MISTAKES.items():
            done = run([self.helm, "template", "gate", str(CHART), *values, *options])
            told = " ".join(done.stderr.split())
            is_refused = done.returncode != 0 and wanted in told
            self.tell(f"refused: {what}", "" if is_refused else f"{done.returncode}: {told[-300:]}")


def drawn_secrets(folder: Path) -> Secrets:
    """Secrets as an operator would draw them, and files of TLS."""
    ensure_certificates(folder / "tls")
    ensure_admin_certificates(folder)
    names: tuple[SignerName, ...] = ("admin", "accounting")
    signers = {str(name): secrets.token_hex(32) for name in names}
    public = ",".join(f"{name}={read_signer(name, signers[name]).public}" for name in names)
    return Secrets(folder, signers, public)


def main() -> int:
    """Both files; 1 when there is a problem."""
    helm, python = go_program(HELM), python_with(KUBERNETES_VALIDATE)
    if helm is None:
        return 1
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(helm, python, Path(folder))
        keys = drawn_secrets(Path(folder))
        print(run([str(helm), "version", "--short"]).stdout.strip())
        for name in FILES:
            trial.file(name, keys)
        trial.mistakes()
    print(f"{trial.problems} problems")
    return 1 if trial.problems or python is None else 0


if __name__ == "__main__":
    sys.exit(main())

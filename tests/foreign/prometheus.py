"""A real Prometheus beside a stack: it scrapes every process and judges by the rules that are shipped.

Debian's package brings both programs (`apt-get install prometheus`; its service need not run). `TALLYGATE_PROMETHEUS` names
another folder that has them. Without them nothing is tried: the scripts end with an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from deploy.bench.running_backend import end_process
from tests.support.harness.identity_provider import free_port

RULES: Final = Path(__file__).parents[2] / "deploy/prometheus"
RULE_TESTS: Final = Path(__file__).parent / "rules/alerts_test.yml"
_STARTS_WITHIN_S: Final = 20.0
_STOPS_WITHIN_S: Final = 10.0
_DURATION: Final = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])|(?<=for: )(\d+)([smhd])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_WINDOW_MIN_S: Final = 5
"""A rate needs a few scrapes."""


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is; ends the script where there is none."""
    found = shutil.which(name, path=os.environ.get("TALLYGATE_PROMETHEUS") or os.environ["PATH"])
    if found is None:
        sys.exit(
            f"{name} is not here: apt-get install prometheus, or set TALLYGATE_PROMETHEUS to its folder"
        )
    return found


def promtool(*arguments: str, given: str = "") -> str:
    """What it says; ends the script where it finds a fault."""
    done = subprocess.run(
        [program("promtool"), *arguments],
        check=False,
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = (done.stdout + done.stderr).strip()
    if done.returncode:
        sys.exit(f"promtool {' '.join(arguments)}: {said}")
    return said


@dataclass(frozen=True, slots=True)
class Target:
    """A process that is scraped."""

    role: str
    url: str
    """Of its page."""
    tls: Mapping[str, str]
    """Files of a client, as Prometheus calls them; none where the page is plain HTTP."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs."""

    url: str

    def _get(self, path: str, **params: str | float) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=30, trust_env=False)
        told = answer.json()
        if told["status"] != "success":
            raise RuntimeError(f"{params.get('query', path)}: {told['error']}")
        return told["data"]

    def drawn(self, expr: str, began_s: float, step_s: float) -> list[float]:
        """What a panel draws of an expression since then. Raises ``RuntimeError`` for one that Prometheus refuses."""
        found = self._get("query_range", query=expr, start=began_s, end=time.time(), step=step_s)
        return [float(value) for series in found["result"] for _, value in series["values"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def targets(self) -> dict[str, str]:
        """Role to whether it was scraped, and what went wrong."""
        return {
            each["labels"]["role"]: f"{each['health']} {each['lastError']}".strip()
            for each in self._get("targets")["activeTargets"]
        }

    def exemplars(self, selector: str, began_s: float) -> list[dict[str, Any]]:
        """The exemplars that it has of a series since then."""
        found = self._get("query_exemplars", query=selector, start=began_s, end=time.time())
        return [one for series in found for one in series["exemplars"]]


@contextmanager
def running_prometheus(
    folder: Path, targets: Sequence[Target], faster: int = 1
) -> Iterator[Prometheus]:
    """One that scrapes each second; all windows and waits of its rules are divided by ``faster``."""
    folder.mkdir(parents=True)
    for name in ("recording.yml", "alerts.yml"):
        (folder / name).write_text(_shortened((RULES / name).read_text(), faster))
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(_config(targets)))
    promtool("check", "config", str(config))
    port = free_port()
    with (folder / "prometheus.log").open("w") as story:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=story,
            stderr=story,
            text=True,
        )
    try:
        _wait_until_ready(port, process)
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        end_process(process, _STOPS_WITHIN_S)


def _config(targets: Sequence[Target]) -> dict[str, Any]:
    """The one that is shipped, with these targets in place of its own."""
    config: dict[str, Any] = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(
        ("scrape_interval", "evaluation_interval", "scrape_timeout"), "1s"
    )
    (job,) = config["scrape_configs"]
    job["static_configs"] = []
    for target in targets:
        scheme, _, rest = target.url.partition("://")
        labels = {"role": target.role, "__scheme__": scheme}
        job["static_configs"] += [{"targets": [rest.partition("/")[0]], "labels": labels}]
        if target.tls:
            job["tls_config"] = dict(target.tls)
    return config


def _wait_until_ready(port: int, process: subprocess.Popen[str]) -> None:
    until_s = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=1, trust_env=False)
        except httpx.HTTPError:
            time.sleep(0.1)
            continue
        if answer.is_success:
            return
        time.sleep(0.1)
    raise RuntimeError("Prometheus does not start; see prometheus.log in its folder")


def _shortened(rules: str, faster: int) -> str:
    """The rules with every window and wait divided."""

    def shorter(found: re.Match[str]) -> str:
        number, unit = found[1] or found[3], found[2] or found[4]
        seconds = int(number) * _UNIT_S[unit] // faster
        return f"{max(_WINDOW_MIN_S if found[1] else 1, seconds)}s"

    return _DURATION.sub(shorter, rules) if faster > 1 else rules

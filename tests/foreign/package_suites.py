"""Test suites that packages ship, run against a gateway: `python -m tests.foreign.package_suites`.

Each comes with its package's source from PyPI and runs unmodified, bounded in time, in an environment of its own; only its key
and its URL are given. Behind the gateway is a backend that obliges. A failing test needs a stated reason (`suite_reasons.py`),
and a reason that no test needs any more is a failure as well.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx

from tests.foreign.packages import FOLDER, python_with
from tests.foreign.suite_reasons import REASONS, Reason
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.running_stack import RunningStack, running_stack

_PROGRAMS = Path(__file__).parent / "programs"
_DOWNLOAD_S = 300.0
_SUITE_S = 600.0
_TEST_S = 30
_OBLIGING = "obliging"
_MODEL = re.compile(r"""(?:model(?:_name)?["']?\s*[:=]\s*|MODEL\s*=\s*)["']([\w.:-]+)["']""")
_RUNNER = ("pytest-timeout==2.4.0",)


@dataclass(frozen=True)
class Suite:
    """Which tests of which package are run, and with what."""

    package: str
    """With its version: its source has the tests."""
    paths: tuple[str, ...]
    """Below the source: those of operations that a gateway has."""
    needs: tuple[str, ...]
    """Packages beside it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Where it reads the URL (``{url}``, ``{root}``) and the key (``{key}``)."""
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the package."""
        return self.package.partition("==")[0]


_GIVEN = ("-p", "given_key")
SUITES = (
    Suite(
        "openai==3.57.0",
        (
            *(f"tests/api_resources/{each}" for each in (
                "chat/test_completions.py", "test_completions.py", "test_embeddings.py", "test_models.py",
                "test_responses.py", "test_files.py", "test_batches.py", "admin/organization/test_usage.py",
            )),
        ),
        ("openai[aiohttp]==3.57.0", "pytest==9.0.3", "pytest-asyncio==1.4.0", "inline-snapshot==0.36.1", "rich", "httpx"),
        {"TEST_API_BASE_URL": "{url}"},
        _GIVEN,
    ),
    Suite(
        "anthropic==2.14.0",
        ("tests/api_resources/test_messages.py", "tests/api_resources/test_models.py"),
        ("anthropic[aiohttp]==2.14.0", "pytest==9.0.3", "pytest-asyncio==1.4.0", "inline-snapshot==0.36.1", "http-snapshot[httpx]==0.1.9", "respx==0.23.1", "httpx"),
        {"TEST_API_BASE_URL": "{root}"},
        _GIVEN,
    ),
    Suite(
        "langchain-openai==1.7.4",
        (
            "tests/integration_tests/chat_models/test_base_standard.py",
            "tests/integration_tests/chat_models/test_responses_standard.py",
            "tests/integration_tests/embeddings/test_base_standard.py",
            "tests/integration_tests/embeddings/test_base.py",
        ),
        ("langchain-openai==1.7.4", "langchain-tests==1.1.9", "langchain"),
        {"OPENAI_API_KEY": "{key}", "OPENAI_BASE_URL": "{url}", "OPENAI_API_BASE": "{url}"},
    ),
    Suite(
        "langchain-anthropic==1.7.10",
        ("tests/integration_tests/test_standard.py",),
        ("langchain-anthropic==1.7.10", "langchain-tests==1.1.9", "langchain"),
        {"ANTHROPIC_API_KEY": "{key}", "ANTHROPIC_BASE_URL": "{root}", "ANTHROPIC_API_URL": "{root}"},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One test of a suite, and what became of it."""

    name: str
    verdict: str
    why: str


def source_of(package: str) -> Path | None:
    """The folder of a package's source as PyPI has it; ``None``, with a word about it, when it cannot be had."""
    folder = FOLDER / f"source-{package.replace('==', '-')}"
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), package]  # fmt: skip
        try:
            subprocess.run(download, check=True, timeout=_DOWNLOAD_S, capture_output=True)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"SKIPPED: the source of {package} cannot be had: {error}", flush=True)
            return None
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        (folder / "ready").touch()
    return next(each for each in folder.iterdir() if each.is_dir())


def models_of(source: Path, paths: Iterable[str]) -> set[str]:
    """The models that its tests name."""
    return {name for path in paths for name in _MODEL.findall((source / path).read_text("utf-8"))}


def run(suite: Suite, python: Path, source: Path, stack: RunningStack, folder: Path) -> list[Case]:
    """All tests of a suite, in its own words. Raises ``subprocess.TimeoutExpired`` past its time."""
    report = folder / f"{suite.name}.xml"
    url = {
        "url": stack.api_url,
        "root": stack.api_url.removesuffix("/v1"),
        "key": stack.first_key,
    }
    given = {name: value.format(**url) for name, value in suite.environment.items()}
    options = ["-q", "-o", "addopts=", "-o", "filterwarnings=", "-p", "no:cacheprovider", f"--timeout={_TEST_S}", f"--junitxml={report}"]  # fmt: skip
    command = [str(python), "-m", "pytest", *options, *suite.options, *suite.paths]
    own = {**os.environ, **given, "GATEWAY_KEY": stack.first_key, "PYTHONPATH": str(_PROGRAMS)}
    with (folder / f"{suite.name}.log").open("w") as log:
        subprocess.run(command, cwd=source, env=own, stdout=log, stderr=log, timeout=_SUITE_S, check=False)  # fmt: skip
    if not report.exists():
        told = (folder / f"{suite.name}.log").read_text()[-2_000:]
        return [Case("(the suite)", "failed", told)]
    return cases_of(report)


def cases_of(report: Path) -> list[Case]:
    """What a report of pytest says."""
    told = []
    for each in ET.parse(report).iter("testcase"):
        name = f"{each.get('classname', '').rpartition('.')[2]}::{each.get('name')}"
        failure = each.find("failure") if each.find("failure") is not None else each.find("error")
        skipped = each.find("skipped")
        if failure is not None:
            told.append(Case(name, "failed", f"{failure.get('message')} {failure.text}"))
        else:
            told.append(Case(name, "passed" if skipped is None else "skipped", ""))
    return told


def judged(suite: str, cases: Sequence[Case], reasons: Sequence[Reason]) -> tuple[list[str], int]:
    """Lines that say how many tests came to what, and why; and how many failed without a reason, or need a reason no more."""
    own = [reason for reason in reasons if reason.suite == suite]
    counts = Counter(case.verdict for case in cases)
    lines = [f"{suite}: " + ", ".join(f"{counts[each]} {each}" for each in ("passed", "failed", "skipped"))]  # fmt: skip
    stated: Counter[str] = Counter()
    unstated = []
    for case in cases:
        if case.verdict == "failed":
            reason = next((each for each in own if each.fits(case.name, case.why)), None)
            if reason is None:
                unstated.append(f"  NO REASON {case.name}: {' '.join(case.why.split())[:400]}")
            else:
                stated[reason.why] += 1
    lines += [f"  {count} {why}" for why, count in stated.most_common()]
    idle = [
        f"  NEEDED NO MORE: {each.why}" for each in own if not each.depends and not stated[each.why]
    ]
    return [*lines, *unstated, *idle], len(unstated) + len(idle)


def _configure(stack: RunningStack, backend: RunningBackend, models: Iterable[str]) -> None:
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        admin.put(f"/backends/{_OBLIGING}", json={"url": backend.url}).raise_for_status()
        for model in sorted(models):
            body = {"backends": [{"backend": _OBLIGING}], "image_tokens": 1_000, "file_tokens": 5_000, "audio_tokens": 1_000}  # fmt: skip
            admin.put(f"/models/{model}", json=body).raise_for_status()


def main() -> int:
    """A table; 1 where a test fails that has no stated reason, or nothing could be had."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[suite.name for suite in SUITES])
    parser.add_argument("--keep", type=Path, help="a folder for logs and reports")
    asked = parser.parse_args()
    found = []
    for suite in SUITES:
        if suite.name in asked.only:
            python, source = python_with((*suite.needs, *_RUNNER)), source_of(suite.package)
            if python and source:
                found.append((suite, python, source))
    wrong = 0
    with tempfile.TemporaryDirectory() as named, ExitStack() as running:
        folder = asked.keep or Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        module = "tests.support.fakes.obliging_backend"
        log = Path(named) / "obliging.jsonl"
        backend = running.enter_context(running_backend(_OBLIGING, log, module=module))
        stack = running.enter_context(running_stack(Path(named) / "state"))
        models = set[str]().union(*(models_of(source, suite.paths) for suite, _, source in found))
        _configure(stack, backend, models)
        for suite, python, source in found:
            lines, unstated = judged(suite.name, run(suite, python, source, stack, folder), REASONS)
            wrong += unstated
            print("\n".join(lines), flush=True)
    return 0 if found and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())

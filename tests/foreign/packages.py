"""Packages of other people in environments of their own: pinned, outside the repository, kept from run to run.

What cannot be had here is said loudly and left out: a machine without npm still tries what is of Python.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CLIENTS_OF_PYTHON = ("openai==3.57.0", "langchain-openai==1.7.4")
SDKS = ("openai==3.57.0", "anthropic==2.14.0")
OLDEST_CLIENTS = ("openai==1.50.0", "httpx==0.27.2")
"""The oldest openai that is supported, with the network library of its day."""
CLIENTS_OF_NODE = (
    "node@22.23.3", "openai@7.59.0", "ai@7.0.173", "@ai-sdk/openai@4.0.118", "@ai-sdk/openai-compatible@3.0.92", "zod@4.6.7",
    "@anthropic-ai/sdk@1.14.0",
)  # fmt: skip
"""With a Node of its own: the AI SDK needs a newer one than distributions have."""
LLAMA_CPP = ("xllamacpp==2026.10.11549", "gguf==0.19.0")
"""llama.cpp's own server in C++, in a wheel."""
LLAMA_CPP_PYTHON = ("llama-cpp-python[server]==0.3.36", "gguf==0.19.0")
"""Another server in Python over the same library; builds it, half an hour on two cores."""
OIDC_PROVIDER = ("node@22.23.3", "oidc-provider@9.13.3")
"""An identity provider whose access tokens are those of RFC 9068."""
HELM = ("helm.sh/helm/v4/cmd/helm", "v4.3.1")
KUBERNETES_VALIDATE = ("kubernetes-validate==1.37.0",)
"""Kubernetes' own schemas of many versions, in a wheel."""
ACTIONLINT = ("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12")
VEGETA = ("github.com/tsenart/vegeta/v12", "v12.13.0")
SCHEMATHESIS = ("schemathesis==4.32.5",)
BUF = ("buf-bin==1.75.0",)
PI = ("node@22.23.3", "@mariozechner/pi-coding-agent@0.73.1")
"""A coding agent that speaks both OpenAI's protocol and Anthropic's."""
S3_SERVER = ("moto[s3,server]==5.2.5",)
AIMOCK = ("node@22.23.3", "@copilotkit/aimock@1.43.0")

FOLDER = Path(tempfile.gettempdir()) / "tallygate-foreign"
_INSTALL_S = 600.0
_BUILD_S = 3_600.0


def python_with(packages: Sequence[str], *, is_built: bool = False) -> Path | None:
    """A Python that has the packages; ``None``, with a word about it, when they cannot be had."""
    folder, is_ready = _environment(packages)
    if not is_ready:
        steps = [
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *packages],
        ]
        if not _install(folder, packages, steps, _BUILD_S if is_built else _INSTALL_S):
            return None
    return folder / "bin/python"


def node_with(packages: Sequence[str]) -> Path | None:
    """A folder whose programs find the packages, and a Node in it; ``None`` when they cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        print(f"SKIPPED: no npm here for {', '.join(packages)}", flush=True)
        return None
    folder, is_ready = _environment(packages)
    if not is_ready:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private":true}')
        install = [
            npm,
            "install",
            "--no-audit",
            "--no-fund",
            "--save-exact",
            "--prefix",
            str(folder),
            *packages,
        ]
        if not _install(folder, packages, [install], _INSTALL_S):
            return None
    return folder


def go_program(module: tuple[str, str]) -> Path | None:
    """A program of a Go module, by the path of its command and its version; ``None`` when it cannot be had."""
    go = shutil.which("go")
    path, version = module
    if go is None:
        print(f"SKIPPED: no go here for {path}", flush=True)
        return None
    folder, is_ready = _environment(module)
    install = ["env", f"GOBIN={folder}", "GOFLAGS=-p=1", go, "install", f"{path}@{version}"]
    if not is_ready and not _install(folder, module, [install], _INSTALL_S):
        return None
    return next(each for each in folder.iterdir() if each.name != "ready")


def _environment(packages: Sequence[str]) -> tuple[Path, bool]:
    named = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    folder = FOLDER / named
    return folder, (folder / "ready").exists()


def _install(
    folder: Path, packages: Sequence[str], steps: list[list[str]], within_s: float
) -> bool:
    print(f"installing {', '.join(packages)} into {folder}", flush=True)
    try:
        for step in steps:
            subprocess.run(step, check=True, timeout=within_s, capture_output=True, text=True)
    except (subprocess.SubprocessError, OSError) as error:
        told = str(getattr(error, "stderr", "") or error).strip().splitlines()[-3:]
        print(f"SKIPPED: {', '.join(packages)} cannot be had: {' '.join(told)}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        return False
    (folder / "ready").touch()
    return True

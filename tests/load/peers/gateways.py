"""How each gateway is started before the same backend, and ended by its pid. Loopback only.

What each does with a request differs, and the table says it: who checks a key, who keeps books.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import psutil

from deploy.bench.running_backend import BenchBackend
from deploy.bench.target import MODEL, options, own_stack
from deploy.embedded.ports import HOST
from tests.load.peers.environments import (
    BIFROST,
    LITELLM,
    MLFLOW,
    PORTKEY,
    NotToBeHad,
    installed,
)

KEY: Final = "sk-bench-0123456789abcdef0123456789abcdef"
_STARTS_WITHIN_S: Final = 180.0
_STOPS_WITHIN_S: Final = 6.0
_LOOK_S: Final = 0.3


@dataclass(frozen=True)
class Running:
    """A gateway that answers; `pids` are its processes, `own` those that are not broker or store."""

    url: str
    key: str
    model: str = MODEL
    headers: Mapping[str, str] = field(default_factory=dict)
    pids: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """The command of a peer: its environment, where it says that it is well, and how it is asked."""

    command: tuple[str, ...]
    health: str
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str = KEY
    model: str = MODEL


@dataclass(frozen=True)
class Gateway:
    """A row of the table. `start` takes the cache folder, a scratch folder, a port and the backend's address."""

    name: str
    checks_keys: bool
    keeps_books: bool
    start: Callable[[Path, Path, int, str], Start] | None = None


def litellm(cache: Path, scratch: Path, port: int, backend: str) -> Start:
    """LiteLLM's proxy with two workers and a master key."""
    place = installed(LITELLM, cache)
    config = scratch / "litellm.yaml"
    config.write_text(
        "model_list:\n"
        f"  - model_name: {MODEL}\n"
        f'    litellm_params: {{model: openai/{MODEL}, api_base: "{backend}", api_key: sk-mock}}\n'
        # The slow one of the head-of-line run.
        f"  - model_name: {MODEL}-1000ms\n"
        f'    litellm_params: {{model: openai/{MODEL}-1000ms, api_base: "{backend}", api_key: sk-mock}}\n'
        "litellm_settings: {telemetry: false, num_retries: 0}\n"
        f"general_settings:\n  master_key: {KEY}\n"
    )
    words = ("--config", str(config), "--host", HOST, "--port", str(port))
    return Start(
        (str(place / "bin" / "litellm"), *words, "--num_workers", "2", "--telemetry", "False"),
        "/health/liveliness",
        {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_TELEMETRY": "False",
            "NO_DOCS": "True",
        },
    )


def portkey(cache: Path, scratch: Path, port: int, backend: str) -> Start:
    """Portkey's gateway, kept to loopback: it binds every interface and has no option for that."""
    place = installed(PORTKEY, cache)
    loopback = scratch / "loopback.cjs"
    loopback.write_text(
        "const n=require('net'),l=n.Server.prototype.listen;\n"
        "n.Server.prototype.listen=function(...a){if(typeof a[0]==='number'){"
        "const cb=a.find(x=>typeof x==='function');"
        "return l.call(this,{port:a[0],host:'127.0.0.1',backlog:4096},cb)}"
        "if(a[0]&&typeof a[0]==='object'&&'port' in a[0])a[0].host='127.0.0.1';"
        "return l.apply(this,a)};\n"
    )
    server = place / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return Start(
        ("node", "--require", str(loopback), str(server), f"--port={port}", "--headless"),
        "/",
        {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
        {"x-portkey-provider": "openai", "x-portkey-custom-host": backend},
        key="sk-mock",
    )


def mlflow(cache: Path, scratch: Path, port: int, backend: str) -> Start:
    """MLflow's gateway with one worker."""
    place = installed(MLFLOW, cache)
    endpoint = (
        "  - name: {name}\n    endpoint_type: llm/v1/chat\n    model:\n      provider: openai\n"
        '      name: {name}\n      config: {{openai_api_key: sk-mock, openai_api_base: "{backend}"}}\n'
    )
    config = scratch / "mlflow.yaml"
    names = (MODEL, f"{MODEL}-1000ms")
    config.write_text(
        "endpoints:\n" + "".join(endpoint.format(name=name, backend=backend) for name in names)
    )
    words = ("gateway", "start", "--config-path", str(config), "--host", HOST)
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    return Start(
        (str(place / "bin" / "mlflow"), *words, "--port", str(port), "--workers", "1"),
        "/health",
        {"PATH": path, "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"},
    )


def bifrost(cache: Path, scratch: Path, port: int, backend: str) -> Start:
    """Bifrost: its npm package is a wrapper that fetches the program from its vendor when it starts."""
    place = installed(BIFROST, cache)
    key = {"name": "mock", "value": "sk-mock", "models": ["*"], "weight": 1.0}
    provider = {"keys": [key], "network_config": {"base_url": backend.removesuffix("/v1")}}
    (scratch / "config.json").write_text(json.dumps({"providers": {"openai": provider}}))
    words = ("-host", HOST, "-port", str(port), "-app-dir", str(scratch))
    program = place / "node_modules/@maximhq/bifrost/bin.js"
    return Start(("node", str(program), *words), "/health", model=f"openai/{MODEL}")


BACKEND: Final = Gateway("zero-delay backend", checks_keys=False, keeps_books=False)
_UNLIMITED: Final = {"TALLYGATE_KEY_BYTES_PER_S": str(2**30)}
"""No other gateway bounds what a key sends in a second."""
TALLYGATE: Final = Gateway("tallygate", checks_keys=True, keeps_books=True)
GATEWAYS: Final = (
    BACKEND,
    TALLYGATE,
    Gateway("litellm", checks_keys=True, keeps_books=False, start=litellm),
    Gateway("portkey", checks_keys=False, keeps_books=False, start=portkey),
    Gateway("mlflow", checks_keys=False, keeps_books=False, start=mlflow),
    Gateway("bifrost", checks_keys=False, keeps_books=False, start=bifrost),
)
"""All rows. No package brings LiteLLM's Rust core as a server yet."""


@asynccontextmanager
async def running(
    gateway: Gateway, cache: Path, scratch: Path, backend: BenchBackend, tell: Callable[[str], None]
) -> AsyncIterator[Running]:
    """The gateway, ready; it is gone when the block is left. Raises ``NotToBeHad``."""
    await asyncio.to_thread(scratch.mkdir, parents=True)
    if gateway == BACKEND:
        yield Running(backend.url, "none", pids={"backend": backend.pid})
    elif gateway.start is None:
        wanted = options(scratch / "state", {**os.environ, **_UNLIMITED})
        async with own_stack(wanted, backend, tell) as target:
            pids = {name: pid for name, pid in target.pids.items() if pid != backend.pid}
            yield Running(target.url, target.key, pids=pids)
    else:
        port = _free_port()
        start = await asyncio.to_thread(gateway.start, cache, scratch, port, backend.url)
        async with _process(start, scratch, port) as pids:
            url = f"http://{HOST}:{port}/v1"
            yield Running(url, start.key, start.model, start.headers, pids)


@asynccontextmanager
async def _process(start: Start, scratch: Path, port: int) -> AsyncIterator[dict[str, int]]:
    environment = {**os.environ, "HOME": str(scratch), **start.environment}
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - psutil waits for it
            start.command,
            env=environment,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        await _until_healthy(process, f"http://{HOST}:{port}{start.health}", scratch / "log")
        yield {f"{each.name()}-{each.pid}": each.pid for each in _family(process.pid)}
    finally:
        await asyncio.to_thread(_end, process)


async def _until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    try:
        async with (
            asyncio.timeout(_STARTS_WITHIN_S),
            httpx.AsyncClient(timeout=2.0, trust_env=False) as client,
        ):
            while True:
                if process.poll() is not None:
                    said = await asyncio.to_thread(log.read_text, errors="replace")
                    raise NotToBeHad(f"it ended at its start: {_reason(said)}")
                try:
                    if (await client.get(url)).is_success:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(_LOOK_S)
    except TimeoutError as late:
        raise NotToBeHad(f"it was not well after {_STARTS_WITHIN_S:.0f} s") from late


def _reason(said: str) -> str:
    """The last line of a program that names an error, or its last line."""
    lines = said.strip().splitlines() or ["it said nothing"]
    errors = [line for line in lines if "rror" in line]
    return (errors or lines)[-1].strip()[:160]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
        return port


def _family(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends it and what it started, by pid."""
    family = _family(process.pid)
    for each in family:
        _quietly(each.terminate)
    _, alive = psutil.wait_procs(family, _STOPS_WITHIN_S)
    for each in alive:
        _quietly(each.kill)
    process.wait()


def _quietly(act: Callable[[], None]) -> None:
    try:
        act()
    except psutil.NoSuchProcess:
        return

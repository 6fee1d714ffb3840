"""`tallygate up`: the embedded stack from the first line of progress to the last goodbye.

Invariant: it ends with exit code 0 after Ctrl-C or SIGTERM and 1 after a problem, with nothing
left behind in either case. Data goes to stdout, the story to stderr.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from deploy.desired_state.document import bad_file, read_desired_state, reference_problems
from deploy.embedded import roles, seed
from deploy.embedded.banner import Facts, render_banner, render_json, render_progress
from deploy.embedded.brokers import POSSIBLE
from deploy.embedded.control import Control
from deploy.embedded.environment import specified_problems
from deploy.embedded.ledger_shape import LedgerShape
from deploy.embedded.model_list import ModelList
from deploy.embedded.problem import StackError
from deploy.embedded.process import Progress
from deploy.embedded.stack import Stack
from deploy.embedded.stack_options import StackOptions
from deploy.embedded.state import UserFolders, write_private
from deploy.embedded.upstreams import Upstream, discover_models, models_told, read_upstreams
from deploy.terminal import say
from schemas.runtime.process.production import Environment
from schemas.runtime.process.specified import specified

ADMIN_DEADLINE_S = 30.0
KILLED_BY_INTERRUPT = 130
_ENVIRONMENT = "TALLYGATE_ENV"


@dataclass(frozen=True)
class UpOptions:
    """The command's options. A port of None is chosen (8080 and 8443 if free); 0 is any."""

    port: int | None = None
    admin_port: int | None = None
    state_dir: Path | None = None
    config: Path | None = None
    backends: tuple[str, ...] = ()
    headless: bool = False
    replicas: Mapping[str, int] = field(default_factory=dict)
    ledger: LedgerShape | None = None
    brokers: int | None = None
    store_server: Path | None = None
    has_store_tls: bool = False
    has_store_users: bool = False
    has_mtls: bool = False
    has_kafka_users: bool = False


@dataclass(frozen=True)
class Plan:
    """The options, read and checked: what to start and what to fill it with."""

    stack: StackOptions
    upstreams: tuple[Upstream, ...]
    desired: tuple[seed.Entity, ...]


async def run_up(options: UpOptions) -> int:
    """Start the stack, wait for a signal, stop it; the exit code."""
    folders = UserFolders()
    try:
        plan = make_plan(options, folders, dict(os.environ))
    except StackError as problem:
        _tell(str(problem))
        return 1
    controls: list[Control] = []

    def report(progress: Progress) -> None:
        _tell_progress(progress)
        for control in controls:
            control.hear(progress)

    stack = Stack(plan.stack, report=report)
    controls.append(control := Control(stack))
    stopped = _stop_on_signal(stack)
    starting = asyncio.create_task(_bring_up(stack, plan))
    waiting = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return 0
        facts = starting.result()
        current = {"pid": os.getpid(), "admin_url": stack.admin_url, "api_url": stack.api_url}
        files = stack.admin_tls.of_client() if stack.admin_tls else {}
        current |= {"state_dir": str(plan.stack.state_dir), **files}
        current |= {"kafka_brokers": stack.kafka_brokers, "ledger_url": stack.ledger_url}
        current |= {"control": str(await control.open())}
        write_private(folders.current, current)
        say(render_json(facts) if options.headless else render_banner(facts), sys.stdout)
        await waiting
        _tell("stopping")
        return 0
    except StackError as problem:
        _tell(str(problem))
        return 1
    finally:
        waiting.cancel()
        _forget(folders.current)
        await control.close()
        await stack.stop()


def make_plan(options: UpOptions, folders: UserFolders, environment: Mapping[str, str]) -> Plan:
    """Read the options. Raises StackError for what a start could never repair."""
    if options.ledger is not None:
        options.ledger.check()
    if options.brokers not in (None, *POSSIBLE):
        raise StackError(
            f"there cannot be {options.brokers} brokers",
            "one is enough to try, and three are what a killed one needs",
            "give --brokers 1 or 3, or leave the option out",
        )
    if problems := specified_problems(environment):
        raise StackError(
            "variables of the environment cannot be followed",
            "\n       ".join(problems),
            "unset them, or write what they ask for as an option",
        )
    if environment.get(_ENVIRONMENT) == Environment.PRODUCTION:
        raise StackError(
            f"{_ENVIRONMENT} is {Environment.PRODUCTION}, and this is one machine for trying",
            "its broker and stores speak without TLS, and one disk has everything",
            "start the processes one by one (docs/production-checklist.md), or unset the variable",
        )
    upstreams = read_upstreams(options.backends, environment.get("BACKEND_ENDPOINTS", ""))
    desired = read_desired_state(options.config) if options.config else ()
    given = {"ingress-0": _port(options.port, environment), "admin-0": options.admin_port}
    brings_backends = upstreams or any(entity.kind == "backends" for entity in desired)
    if options.config:
        _check_as_a_whole(options.config, desired, upstreams, has_examples=not brings_backends)
    stack = StackOptions(
        state_dir=(options.state_dir or folders.state).absolute(),
        cache_dir=folders.cache,
        environment=environment,
        replicas=options.replicas,
        ledger=options.ledger,
        brokers=options.brokers,
        store_program=options.store_server,
        has_store_tls=options.has_store_tls,
        has_store_users=options.has_store_users,
        has_mtls=options.has_mtls,
        has_kafka_users=options.has_kafka_users,
        explicit_ports={name: port for name, port in given.items() if port is not None},
        has_example_backends=not brings_backends,
    )
    return Plan(stack, upstreams, desired)


def _port(wanted: int | None, environment: Mapping[str, str]) -> int | None:
    """Of the API: the option's, or the specification's variable. Raises StackError when they differ."""
    told = specified({"HTTP_PORT": environment.get("HTTP_PORT", "")}, {"port"})
    port = int(told.values["port"]) if "port" in told.values else None
    if told.problems or (port is not None and wanted not in (None, port)):
        why = told.problems.get("HTTP_PORT", f"HTTP_PORT is {port}, and --port is {wanted}")
        raise StackError(
            "the port of the API cannot be told", why, "unset HTTP_PORT, or leave --port out"
        )
    return port if wanted is None else wanted


def _check_as_a_whole(
    path: Path,
    desired: tuple[seed.Entity, ...],
    upstreams: tuple[Upstream, ...],
    *,
    has_examples: bool,
) -> None:
    """Raises StackError when the file contradicts the options or refers to what neither has."""
    names = roles.EXAMPLE_BACKENDS if has_examples else ()
    given = [*upstreams, *(Upstream(name, "http://example/v1") for name in names)]
    known = {e.id: e for e in (seed.backend_entity(upstream, {}) for upstream in given)}
    problems = [
        f"backends.{entity.id}.url: {entity.body['url']} here, {known[entity.id].body['url']} given"
        for entity in desired
        if entity.kind == "backends"
        and entity.id in known
        and entity.body["url"] != known[entity.id].body["url"]
    ]
    # Keys live in the state folder; only the running admin API knows them.
    stated = [entity for entity in desired if entity.kind != "keys"]
    names_stated = {(entity.kind, entity.id) for entity in stated}
    implied = [e for e in (*known.values(), seed.demo_org()) if (e.kind, e.id) not in names_stated]
    problems += map(str, reference_problems([*implied, *stated]))
    if problems:
        raise bad_file(path, problems)


async def _bring_up(stack: Stack, plan: Plan) -> Facts:
    await stack.start()
    try:
        tls = stack.admin_tls.client_context() if stack.admin_tls else False
        async with httpx.AsyncClient(
            base_url=stack.admin_url, timeout=ADMIN_DEADLINE_S, trust_env=False, verify=tls
        ) as admin:
            await _fill(stack, plan, admin)
            if not stack.memory.is_config_signed:
                (await admin.post("/config/sign", json={})).raise_for_status()
                stack.remember_signed()
            models = tuple(await seed.list_entities(admin, "models"))
    except httpx.HTTPError as error:
        raise StackError(
            f"the admin API at {stack.admin_url} did not answer",
            f"{type(error).__name__}: {error}",
            f"read {plan.stack.state_dir / 'logs' / 'admin-0.log'}",
        ) from error
    return Facts(
        apis=stack.api_urls,
        grpc=stack.grpc_address,
        admins=stack.admin_urls,
        kafka=stack.kafka_brokers,
        ledger=stack.ledger_url,
        bus=stack.bus_url,
        metrics=stack.worker_urls,
        key=stack.memory.first_key or "",
        models=models,
        state_dir=str(plan.stack.state_dir),
    )


async def _fill(stack: Stack, plan: Plan, admin: httpx.AsyncClient) -> None:
    environment = plan.stack.environment
    upstreams = plan.upstreams
    if plan.stack.has_example_backends:
        upstreams = tuple(roles.example_backend(n, stack.ports) for n in roles.EXAMPLE_BACKENDS)
        served = {upstream.id: (seed.EXAMPLE_MODEL,) for upstream in upstreams}
        models = seed.model_entities(served, seed.EXAMPLE_PRICES)
    else:
        models = seed.model_entities(await _discover(upstreams, environment), {})
    backends = [seed.backend_entity(upstream, environment) for upstream in upstreams]
    await seed.seed_missing(admin, [*backends, *models, seed.demo_org()])
    for entity in plan.desired:
        await seed.put(admin, entity)
    if stack.memory.first_key is None:
        stack.remember_first_key(await seed.create_first_key(admin))


async def _discover(
    upstreams: tuple[Upstream, ...], environment: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    found = await asyncio.gather(*(discover_models(u, environment) for u in upstreams))
    served: dict[str, tuple[str, ...]] = {}
    for upstream, listed in zip(upstreams, found, strict=True):
        if isinstance(listed, ModelList):
            served[upstream.id] = listed.models
        for text in models_told(upstream, listed):
            _tell_progress(Progress(upstream.id, upstream.id in served, text))
    return served


def _stop_on_signal(stack: Stack) -> asyncio.Event:
    """An event that the first signal sets; the second one kills everything at once."""
    stopped = asyncio.Event()

    def on_signal() -> None:
        if stopped.is_set():
            stack.kill()
            os._exit(KILLED_BY_INTERRUPT)
        stopped.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    return stopped


def _forget(current: Path) -> None:
    """Remove the address file, unless a later stack has put its own there."""
    with suppress(OSError, ValueError):
        if json.loads(current.read_text(encoding="utf-8")).get("pid") == os.getpid():
            current.unlink()


def _tell_progress(progress: Progress) -> None:
    _tell(render_progress(progress))


def _tell(text: str) -> None:
    say(text, sys.stderr)

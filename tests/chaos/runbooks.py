"""`make runbooks`: the commands of each runbook, in order, on a stack with the fault made for real; and what each says.

`python -m tests.chaos.runbooks [--only NAME ...]`. A command has what the page about runbooks gives an operator: `ask`, `$API`, `$KEY`, the
command line. `systemctl` stands for whatever starts processes, and here it starts those of the stack. After a night the doctor
finds nothing and the books are equal. Exit code 1 when a command said something else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from deploy.embedded.ports import HOST
from deploy.embedded.process import output_of
from deploy.embedded.seed import EXAMPLE_MODEL
from tests.chaos.ill_stack import IllStack, ill_stack
from tests.chaos.nights import NIGHTS
from tests.support.harness.running_stack import TALLYGATE
from tests.support.runbook_files import FOLDER, Step, read_runbook

_SAYS_WITHIN_S: Final = 90.0
_COMMAND_WITHIN_S: Final = 150.0
_LOOK_S: Final = 1.0
_SHOWN: Final = 1_500
_ASSIGNED: Final = re.compile(r"([A-Z_]+)=")
_FUNCTION: Final = re.compile(r"([a-z]+)\(\) \{")
_SUPERVISOR: Final = '#!/bin/sh\nexec curl -sf -m 140 -X POST "$SUPERVISOR/$1/$2"\n'
_UNITS: Final = {
    "kafka": "kafka",
    "valkey-ledger": "ledger",
    "valkey-bus": "bus",
    "example-a": "example-a",
    "example-b": "example-b",
    "tallygate-admin": "admin-0",
    "tallygate-ingress": "ingress-0",
    "tallygate-limiter": "limiter_worker-0",
    "tallygate-dispatcher": "dispatcher-0",
    "tallygate-accounting": "accounting-0",
}
"""What the runbooks call processes, and what the stack does."""


class Unlike(Exception):
    """A command that said something else than its runbook."""


@asynccontextmanager
async def _supervisor(ill: IllStack, folder: Path) -> AsyncIterator[Mapping[str, str]]:
    """A `systemctl` that starts, stops and restarts processes of the stack; its surroundings."""

    async def act(request: web.Request) -> web.Response:
        name = _UNITS[request.match_info["unit"]]
        if name == "admin-0":
            await ill.renew_admin()
        else:
            process = ill.stack.processes[name]
            await {"start": process.start, "stop": process.stop, "restart": process.restart}[
                request.match_info["verb"]
            ]()
        return web.Response(text="")

    app = web.Application()
    app.router.add_post("/{verb}/{unit}", act)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    shims = folder / "bin"
    shims.mkdir(exist_ok=True)
    (shims / "systemctl").write_text(_SUPERVISOR)
    (shims / "systemctl").chmod(0o755)
    path = f"{shims}:{TALLYGATE.parent}:{os.environ['PATH']}"
    try:
        yield {"SUPERVISOR": f"http://{HOST}:{runner.addresses[0][1]}", "PATH": path}
    finally:
        await runner.cleanup()


class Shell:
    """Runs commands one by one; what one sets, the next ones have."""

    def __init__(self, ill: IllStack, folder: Path, surroundings: Mapping[str, str]) -> None:
        self._ill = ill
        self._kept = folder / "kept.sh"
        self._kept.write_text(
            "\n".join(s.command for s in read_runbook(FOLDER / "README.md").steps) + "\n"
        )
        self._own = dict(surroundings)

    async def run(self, step: Step) -> str:
        """The output of a command, once it says what it should. Raises ``Unlike``."""
        give_up_s = time.monotonic() + _SAYS_WITHIN_S
        while True:
            code, said = await self._once(step.command)
            lacking = [text for text in step.says if text not in said]
            if not lacking and (step.says or code == 0):
                return said
            if not step.says or time.monotonic() > give_up_s:
                wanted = f"lacks {lacking}" if lacking else f"ended with {code}"
                raise Unlike(f"$ {step.command}\n{said[-_SHOWN:]}\n  {wanted}")
            await asyncio.sleep(_LOOK_S)

    async def _once(self, command: str) -> tuple[int, str]:
        keep = ""
        if found := _FUNCTION.match(command):
            keep = f"\ndeclare -f {found[1]} >> '{self._kept}'"
        elif found := _ASSIGNED.match(command):
            keep = f"\ndeclare -p {found[1]} >> '{self._kept}'"
        script = f". '{self._kept}'\n{command}{keep}"
        tls = self._ill.stack.admin_tls
        own = {**os.environ, **self._own, **(tls.of_client() if tls else {})}
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", script,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=own,
        )  # fmt: skip
        said, _ = await output_of(process, _COMMAND_WITHIN_S)
        return process.returncode or 0, said.decode(errors="replace")


async def _night(ill: IllStack, name: str, variables: Mapping[str, str], folder: Path) -> float:
    """One runbook; how long it took. Raises ``Unlike``."""
    began_s = time.monotonic()
    async with NIGHTS[name].fault(ill, variables) as more:
        shell = Shell(ill, folder, {**variables, **more})
        for step in read_runbook(FOLDER / f"{name}.md").steps:
            said = await shell.run(step)
            print(f"    $ {step.command}", flush=True)
            for text in step.says:
                line = next((each for each in said.splitlines() if text in each), text)
                print(f"      {line.strip()[:160]}", flush=True)
    return time.monotonic() - began_s


async def _nights(folder: Path, names: Sequence[str], *, is_guarded: bool) -> list[str]:
    """The runbooks of one stack; what was unlike."""
    wrong = []
    async with ill_stack(folder, is_guarded=is_guarded) as ill, _supervisor(ill, folder) as own:
        variables = {
            **own,
            "XDG_STATE_HOME": str(folder / "elsewhere"),
            "TALLYGATE_ADMIN_URL": ill.stack.admin_url,
            "TALLYGATE_KAFKA_BROKERS": ill.stack.kafka_brokers,
            "API": ill.stack.api_url.removesuffix("/v1"),
            "KEY": await ill.key("demo", {"requests_per_s": 100_000, "burst": 100_000}),
            "MODEL": EXAMPLE_MODEL,
        }
        for name in names:
            print(f"{name}", flush=True)
            try:
                seconds = await _night(ill, name, variables, folder)
                print(f"{name:<26} as written, {seconds:.0f} s", flush=True)
            except Unlike as unlike:
                print(f"{name:<26} UNLIKE\n{unlike}", flush=True)
                wrong.append(name)
    return wrong


async def play(chosen: Sequence[str]) -> bool:
    """All nights, or some; whether all went as they are written."""
    wrong: list[str] = []
    names = [name for name in NIGHTS if not chosen or name in chosen]
    with tempfile.TemporaryDirectory(prefix="tallygate-nights-") as folder:
        for is_guarded in (False, True):
            own = [name for name in names if NIGHTS[name].is_guarded is is_guarded]
            if own:
                place = Path(folder) / ("guarded" if is_guarded else "alone")
                wrong += await _nights(place, own, is_guarded=is_guarded)
    print(
        f"{len(names) - len(wrong)} of {len(names)} runbooks went as they are written", flush=True
    )
    return not wrong


def main() -> int:
    """Read the command line, play, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="*", default=(), help="names of runbooks")
    return 0 if asyncio.run(play(options.parse_args().only)) else 1


if __name__ == "__main__":
    sys.exit(main())

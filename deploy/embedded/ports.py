"""Chooses the loopback ports of the stack.

Invariant: an explicit port is used or refused, never replaced; every other port may move, and the
move is reported. Random ports come from below the kernel's ephemeral range, so that no outgoing
connection (above all a client that redials a dead server) can sit on a port we must bind again.
"""

from __future__ import annotations

import fcntl
import random
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

from deploy.embedded.problem import StackError

HOST = "127.0.0.1"
RANDOM_PORTS = range(20_000, 32_000)
NEIGHBOURS = 20
RANDOM_TRIES = 200


@dataclass(frozen=True)
class PortChoice:
    """Ports by name, and the (name, wanted, chosen) of those that had to move."""

    ports: Mapping[str, int]
    moved: tuple[tuple[str, int, int], ...]


def is_port_free(port: int) -> bool:
    """True if a server could bind `port` on loopback now; connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


class PortReservations:
    """Ports promised to this stack: between the choice and the bind no other stack may take one.

    A promise is a lock on a file, so it ends with the process at the latest.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[IO[str]] = []

    def take(self, port: int) -> bool:
        """True if the port is free and now promised to us."""
        if not is_port_free(port):
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        promise = (self._folder / str(port)).open("w")
        try:
            fcntl.flock(promise, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            promise.close()
            return False
        self._held.append(promise)
        return True

    def release(self) -> None:
        """Give all of them back."""
        while self._held:
            self._held.pop().close()


def choose_ports(
    preferred: Mapping[str, int],
    explicit: Mapping[str, int],
    rng: random.Random,
    is_free: Callable[[int], bool] = is_port_free,
) -> PortChoice:
    """Give every name in `preferred` a free port of its own; 0 means any.

    `explicit` overrides by name. Raises StackError if an explicit port (other than 0) is taken.
    """
    ports: dict[str, int] = {}
    moved: list[tuple[str, int, int]] = []
    for name, wanted in explicit.items():
        if wanted and not is_free(wanted):
            raise _taken(name, wanted)
        if wanted:
            ports[name] = wanted
    for name in preferred:
        if name in ports:
            continue
        wanted = explicit.get(name, preferred[name])
        used = set(ports.values())
        ports[name] = _first_free(name, _candidates(wanted, rng), is_free, used)
        if wanted and ports[name] != wanted:
            moved.append((name, wanted, ports[name]))
    return PortChoice(ports, tuple(moved))


def _candidates(wanted: int, rng: random.Random) -> Iterator[int]:
    near: Iterable[int] = range(wanted, wanted + NEIGHBOURS) if wanted else ()
    return chain(near, (rng.choice(RANDOM_PORTS) for _ in range(RANDOM_TRIES)))


def _first_free(
    name: str, candidates: Iterator[int], is_free: Callable[[int], bool], used: set[int]
) -> int:
    for port in candidates:
        if port not in used and is_free(port):
            return port
    raise StackError(
        f"no free port for {name}",
        f"{RANDOM_TRIES} ports between {RANDOM_PORTS.start} and {RANDOM_PORTS.stop} are taken",
        "close programs that listen on this machine, then start again",
    )


def _taken(name: str, port: int) -> StackError:
    return StackError(
        f"port {port} ({name}) is taken",
        f"another program listens on {HOST}:{port}",
        "stop that program, name another port, or leave the option out to let a free one be chosen",
    )

"""The state folder of one embedded stack, and where later commands find the running one.

Invariants: one process at a time owns a folder (flock, released by the kernel even on kill -9);
`stack.json` holds secrets, so it is replaced whole, atomically, with file mode 0600.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.embedded.problem import StackError

MINIMUM_FREE_BYTES = 1 << 30
FOLDERS = ("kafka", "ledger", "bus", "logs", "data")


class UserFolders(BaseSettings):
    """Where this user keeps state and caches, by the XDG rules; read in entry points only."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    xdg_state_home: Path = Field(default_factory=lambda: Path.home() / ".local" / "state")
    xdg_cache_home: Path = Field(default_factory=lambda: Path.home() / ".cache")

    @property
    def state(self) -> Path:
        return self.xdg_state_home / "tallygate"

    @property
    def cache(self) -> Path:
        return self.xdg_cache_home / "tallygate"

    @property
    def current(self) -> Path:
        """The address of the stack that runs now; independent of any --state-dir."""
        return self.state / "current.json"


@dataclass(frozen=True)
class Memory:
    """What a stack remembers between starts. All but the ids, ports and numbers are secrets."""

    cluster_id: str
    pepper: str
    ports: Mapping[str, int] = field(default_factory=dict)
    first_key: str | None = None
    ledger_primaries: int = 1
    ledger_replicas: int = 0
    brokers: int = 1
    store_secret: str = ""
    config_secret: str = ""
    """What the keys are derived from that sign the configuration."""
    is_config_signed: bool = False
    """Whether all that is in force is signed, so that processes may ask for it."""
    signing_pepper: str = ""
    webhook_pepper: str = ""


def new_memory(random_bytes: Callable[[int], bytes]) -> Memory:
    """A fresh identity: a Kafka cluster id (base64 of 16 bytes) and a key pepper."""
    cluster_id = base64.urlsafe_b64encode(random_bytes(16)).decode().rstrip("=")
    # Kafka's command line takes an id with a leading dash for an option.
    return Memory(cluster_id="K" + cluster_id[1:], pepper=random_bytes(32).hex())


class StateFolder:
    """An owned state folder. Created by `claim`, given back by `release`."""

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def claim(cls, path: Path) -> StateFolder:
        """Create the folder if needed and lock it.

        Raises StackError if it cannot be written, has too little space, or is in use.
        """
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in FOLDERS:
                (path / name).mkdir(exist_ok=True, mode=0o700)
            lock = (path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise StackError(
                f"the state folder {path} cannot be written",
                str(error),
                "choose another folder with --state-dir",
            ) from error
        try:
            _lock(path, lock)
            check_free_space(path, shutil.disk_usage(path).free)
        except StackError:
            lock.close()
            raise
        return cls(path, lock)

    def release(self) -> None:
        """Give the folder up; a second call does nothing."""
        self._lock.close()

    def memory(self) -> Memory | None:
        """What the last start remembered, or None on the first start."""
        file = self.path / "stack.json"
        if not file.exists():
            return None
        try:
            return Memory(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise StackError(
                f"{file} cannot be understood",
                str(error),
                "restore the file, or start afresh with another --state-dir",
            ) from error

    def remember(self, memory: Memory) -> None:
        """Replace `stack.json`."""
        write_private(self.path / "stack.json", asdict(memory))


def check_free_space(folder: Path, free_bytes: int, needed_bytes: int = MINIMUM_FREE_BYTES) -> None:
    """Raises StackError if fewer than `needed_bytes` are free; a log on a full disk loses data."""
    if free_bytes < needed_bytes:
        raise StackError(
            f"too little disk space for {folder}",
            f"{free_bytes >> 20} MiB are free, {needed_bytes >> 20} MiB are needed",
            "free some space, or use a folder on another disk",
        )


def write_private(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that only this user may read; readers see the old or the new file, never half."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = file.with_name(f"{file.name}.{os.getpid()}.new")
    staging.unlink(missing_ok=True)
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        json.dump(content, out, indent=2)
    staging.replace(file)


def _lock(path: Path, lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        raise StackError(
            f"the state folder {path} is in use",
            f"another tallygate up (pid {lock.read().strip()}) runs on it",
            "stop that one with Ctrl-C, or choose another folder with --state-dir",
        ) from error
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()

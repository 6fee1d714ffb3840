"""Kafka's jars: downloaded once from the Maven repository by jgo, then used without network.

Invariants: a jar is used only if its SHA-256 stands in `kafka-jars.lock`; the cache folder appears
whole or not at all. `python -m deploy.embedded.kafka_jars` resolves the coordinates anew and prints
the lock file.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver
from requests import RequestException

from deploy.embedded.problem import StackError
from deploy.embedded.state import check_free_space
from deploy.terminal import say

KAFKA_VERSION = "4.3.1"
# The "!" keeps a coordinate's own dependency management to itself. Without it log4j's would
# apply to Kafka and put kafka-clients 3.9.1 under a 4.3.1 broker.
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}!",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3!",
)
LOCK_FILE = Path(__file__).with_name("kafka-jars.lock")
DOWNLOADS_AT_ONCE = 8
NEEDED_BYTES = 256 << 20


@dataclass(frozen=True)
class LockedJar:
    """One jar by Maven coordinate (group:artifact:version) and SHA-256."""

    coordinate: str
    sha256: str


def read_lock(text: str) -> tuple[LockedJar, ...]:
    """The jars of a lock file: a line each, `<sha256>  <coordinate>`."""
    fields = (line.split() for line in text.splitlines() if line)
    return tuple(LockedJar(coordinate, sha256) for sha256, coordinate in fields)


def jar_folder(cache: Path) -> Path:
    """Where the jars of exactly this lock file are, once downloaded."""
    digest = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
    return cache / f"kafka-{KAFKA_VERSION}-{digest[:8]}"


async def ensure_jars(cache: Path) -> Path:
    """The folder of Kafka's jars, after downloading them (about 45 MB) if it is not there yet.

    Raises StackError if the repository cannot be reached, a jar is not the locked one, or the
    disk is full. Cancelling it stops the download within the files in flight.
    """
    folder = jar_folder(cache)
    if folder.is_dir():
        return folder
    give_up = threading.Event()
    try:
        await asyncio.to_thread(_download_all, folder, give_up)
    except (RequestException, RuntimeError, OSError) as error:
        raise StackError(
            f"Kafka {KAFKA_VERSION} could not be downloaded",
            f"{type(error).__name__}: {error}",
            f"connect to the network once, or copy {folder} from a machine that has it",
        ) from error
    finally:
        give_up.set()
    return folder


def _download_all(folder: Path, give_up: threading.Event) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_free_space(folder.parent, shutil.disk_usage(folder.parent).free, NEEDED_BYTES)
    # A repository of our own per try: jgo would take half a jar of an interrupted try for a whole.
    with tempfile.TemporaryDirectory(prefix="download-", dir=folder.parent) as staging:
        jars = Path(staging) / "jars"
        jars.mkdir()
        maven = MavenContext(resolver=PythonResolver(), repo_cache=Path(staging) / "repository")

        def fetch(jar: LockedJar) -> None:
            # One jar that cannot be had makes the others pointless, each with its own time-out.
            try:
                if not give_up.is_set():
                    _download(maven, jar, jars)
            except BaseException:
                give_up.set()
                raise

        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            for _ in pool.map(fetch, read_lock(LOCK_FILE.read_text(encoding="utf-8"))):
                pass
        if not give_up.is_set():
            _publish(jars, folder)


def _download(maven: MavenContext, jar: LockedJar, into: Path) -> None:
    path = maven.create_dependency(f"{jar.coordinate}!").artifact.resolve()
    if _sha256(path) != jar.sha256:
        raise StackError(
            f"{path.name} is not the file that was expected",
            f"its SHA-256 differs from the one in {LOCK_FILE.name}",
            "check the Maven mirror or proxy between this machine and the repository",
        )
    path.rename(into / path.name)


def _publish(jars: Path, folder: Path) -> None:
    try:
        jars.rename(folder)
    except OSError:
        # Another start was faster; its folder has the same jars.
        if not folder.is_dir():
            raise


def _sha256(path: Path) -> str:
    with path.open("rb") as jar:
        return hashlib.file_digest(jar, "sha256").hexdigest()


def _resolve() -> Iterator[LockedJar]:
    with tempfile.TemporaryDirectory() as repository:
        maven = MavenContext(resolver=PythonResolver(), repo_cache=Path(repository))
        wanted = [maven.create_dependency(coordinate) for coordinate in COORDINATES]
        for dependency in wanted:
            dependency.scope = "compile"
        inputs, transitive = maven.resolver.resolve(wanted)
        for dependency in [*inputs, *transitive]:
            if dependency.scope in ("compile", "runtime"):
                coordinate = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
                yield LockedJar(coordinate, _sha256(dependency.artifact.resolve()))


if __name__ == "__main__":
    for locked in sorted(_resolve(), key=lambda jar: jar.coordinate):
        say(f"{locked.sha256}  {locked.coordinate}", sys.stdout)

"""What a replay of a long log costs, what it finds, and whether it survives kill -9.

`python -m tests.load.replay [--outcomes 200000]` starts `tallygate up`, appends outcomes to its log and waits until accounting has
booked them. Then, with the command line as users have it: a plan; a replay as accounting of all and of a tenth, whose difference
has to be 0, with the most memory that each takes; one that is killed in the middle and run again; a copy that is killed in the
middle and run again, and a replay of that copy; a copy of the copy in which one attempt says a token more, whose replay has to
name that line. Exit code 1 on a finding.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.codec import decode, encode
from schemas.events import RequestFinished
from schemas.topics import OUTCOMES
from tests.load.outcomes_log import append
from tests.support.harness.running_stack import TALLYGATE, RunningStack, running_stack

BOOKED_WITHIN_S: Final = 900.0
RUN_WITHIN_S: Final = 900.0
_SAMPLE_S: Final = 0.05
_MIB: Final = 1 << 20
_COPY: Final = "replayed.outcomes"
_ALTERED: Final = "replayed.outcomes.altered"


@dataclass
class Ran:
    """One command: its exit code, its document, how long it took, and the most memory it had."""

    code: int
    document: dict[str, Any]
    seconds: float
    peak_mib: int

    @property
    def rate(self) -> int:
        """Records a second."""
        return int(self.document["read"] / max(self.seconds, 0.001))


@dataclass
class Replays:
    """Runs replays beside one stack."""

    stack: RunningStack
    folder: Path
    findings: list[str] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """The command, under way."""
        there = ["--brokers", self.stack.kafka, "--url", self.stack.admin_url, "--json"]
        if "accounting" in words:
            there += ["--ledger", self.stack.ledger_url]
        return subprocess.Popen(
            [TALLYGATE, "replay", *words, *there], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *words: str) -> Ran:
        """The command, once it has ended."""
        began_s, peak = time.monotonic(), 0
        process = self.start(*words)
        watched = psutil.Process(process.pid)
        while process.poll() is None and time.monotonic() - began_s < RUN_WITHIN_S:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(_SAMPLE_S)
        seconds = time.monotonic() - began_s
        out, story = process.communicate(timeout=60)
        if not out:
            raise RuntimeError(f"{words}: {process.returncode}\n{story.decode()}")
        return Ran(process.returncode, json.loads(out), seconds, peak // _MIB)

    def killed(self, checkpoint: Path, at: int, *words: str) -> int:
        """Kill -9 the command once so many records are committed; how many were."""
        process = self.start(*words, "--checkpoint", str(checkpoint))
        end_s = time.monotonic() + RUN_WITHIN_S
        while process.poll() is None and time.monotonic() < end_s:
            if (done := committed(checkpoint)) >= at:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return done
            time.sleep(_SAMPLE_S)
        process.kill()
        raise RuntimeError(f"{words} ended before it was killed: {process.communicate()}")

    def check(self, name: str, ran: Ran, expected: dict[str, Any], code: int) -> None:
        """Say what a run came to, and note what is not as expected."""
        found = {each: ran.document.get(each) for each in expected}
        print(
            f"{name}: {ran.seconds:.1f} s, {ran.rate} records/s, {ran.peak_mib} MiB, exit {ran.code}, {found}",
            flush=True,
        )
        if found != expected or ran.code != code:
            self.findings.append(f"{name}: {found}, not {expected}; exit {ran.code}, not {code}")


def committed(checkpoint: Path) -> int:
    """How many records the checkpoint says were read, by its own count."""
    if not checkpoint.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{checkpoint}?mode=ro", uri=True, timeout=1)) as file:
            row = file.execute("SELECT amount FROM counted WHERE name = 'read'").fetchone()
    except sqlite3.OperationalError:
        return 0  # It is being written.
    return row[0] if row else 0


@contextmanager
def reader(brokers: str, topic: str) -> Iterator[Consumer]:
    """A foreign consumer of a whole topic."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "replay-check", "enable.auto.commit": False}
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        yield consumer
    finally:
        consumer.close()


def alter(brokers: str, offset: int) -> str:
    """Copy the copy with foreign tools, one attempt of it a token more; the id of that usage line."""
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 20})
    producer.list_topics(_ALTERED, timeout=10)
    named, seen = "", 0
    with reader(brokers, _COPY) as consumer:
        while batch := consumer.consume(2_000, timeout=3.0):
            for message in batch:
                value = message.value()
                event = decode(value)
                if not named and seen >= offset and isinstance(event, RequestFinished):
                    first, *others = event.attempts
                    more = msgspec.structs.replace(first, output_tokens=first.output_tokens + 1)
                    value = encode(msgspec.structs.replace(event, attempts=[more, *others]))
                    named = f"{event.request_id}:{first.attempt}:0"
                seen += 1
                said: dict[str, Any] = {"headers": message.headers()}
                producer.produce(_ALTERED, value, message.key(), message.partition() or 0, **said)
                producer.poll(0)
    assert producer.flush(60) == 0
    return named


def make_topic(brokers: str, like: str) -> None:
    """A topic for the altered copy, with as many partitions as another."""
    admin = AdminClient({"bootstrap.servers": brokers})
    count = len(admin.list_topics(like, timeout=10).topics[like].partitions)
    for future in admin.create_topics([NewTopic(_ALTERED, count, 1)]).values():
        future.result(20)


def measure(replays: Replays, count: int) -> None:
    """All of it; what is wrong is noted."""
    brokers = replays.stack.kafka
    print(f"{count} outcomes appended within {append(brokers, count):.0f} s", flush=True)
    began_s = time.monotonic()
    _until_booked(replays)
    print(f"booked {time.monotonic() - began_s:.0f} s later", flush=True)

    clean = {"difference": 0, "undecodable": 0, "gone": 0, "notes": [], "not_compared": []}
    whole = {**clean, "read": count, "selected": count}
    run = ("run", "--as", "accounting")
    replays.check("all, as accounting", replays.run(*run), whole, 0)
    tenth = replays.run(*run, "--range", f":{count // 40}")
    replays.check("the beginning of each partition", tenth, clean, 0)
    replays.check("one organization", replays.run(*run, "--org", "replayed-7"), clean, 0)

    file = replays.folder / "killed.sqlite3"
    done = replays.killed(file, count // 3, *run)
    again = replays.run(*run, "--checkpoint", str(file))
    replays.check(f"killed at {done}, again", again, whole, 0)

    copy = ("run", "--as", "copy", "--to", _COPY)
    done = replays.killed(file, count // 3, *copy)
    again = replays.run(*copy, "--checkpoint", str(file))
    replays.check(f"copy killed at {done}, again", again, {"difference": 0, "read": count}, 0)
    there = next(each["there"] for each in again.document["totals"] if each["measure"] == "records")
    if there != count:
        replays.findings.append(f"the copy has {there} records, not {count}")
    replays.check("the copy, as accounting", replays.run(*run, "--topic", _COPY), whole, 0)

    make_topic(brokers, _COPY)
    named = alter(brokers, count // 2)
    altered = replays.run(*run, "--topic", _ALTERED)
    replays.check("one line altered", altered, {"difference": 2, "lines_differing": 1}, 1)
    if [line["usage_id"] for line in altered.document["lines"]] != [named]:
        replays.findings.append(f"{named} is not what is named: {altered.document['lines']}")
    print(f"named: {altered.document['lines']}\nsums: {altered.document['sums']}", flush=True)


def _until_booked(replays: Replays) -> None:
    end_s = time.monotonic() + BOOKED_WITHIN_S
    while time.monotonic() < end_s:
        lag = subprocess.run(
            [TALLYGATE, "lag", "--url", replays.stack.admin_url, "--json"],
            capture_output=True,
            check=True,
            timeout=60,
        )
        items = json.loads(lag.stdout)["items"]
        if not sum(item["lag"] for item in items if item["topic"] == OUTCOMES):
            return
        time.sleep(1.0)
    raise RuntimeError("accounting did not book them in time")


def main() -> int:
    """Run with the number given."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--outcomes", type=int, default=200_000)
    count = options.parse_args().outcomes
    with (
        tempfile.TemporaryDirectory(prefix="tallygate-replay-") as folder,
        running_stack(Path(folder) / "state") as stack,
    ):
        replays = Replays(stack, Path(folder))
        measure(replays, count)
    for finding in replays.findings:
        print(f"FINDING {finding}")
    print(f"findings {len(replays.findings)}")
    return 1 if replays.findings else 0


if __name__ == "__main__":
    sys.exit(main())

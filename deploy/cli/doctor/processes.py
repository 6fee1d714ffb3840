"""Judges the processes by what each reports of itself. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from deploy.cli.doctor.facts import Instance, Status
from deploy.cli.doctor.finding import Finding, found, quoted, shown
from schemas.reports import FRESH_FOR_S, ProcessReport

__all__ = ["LOCAL_AHEAD_MAX_MS", "of_processes"]

_COMMANDS: Final = {
    "admin": "admin",
    "ingress": "ingress",
    "batches": "batches",
    "limiter_worker": "limiter",
    "dispatcher": "dispatcher",
    "accounting": "accounting",
}
"""Role to the command that starts one."""
LOCAL_AHEAD_MAX_MS: Final = 1_000
BROKER_AHEAD_MAX_MS: Final = 2_000
_ELSEWHERE: Final = frozenset({"books", "broker_disk", "clock"})
"""Components that have a check of their own."""
_UNKNOWN_SCHEMA: Final = "unknown_schema"
_LOOK_AT: Final = {
    "kafka": "tallygate topics list",
    "ledger": "tallygate ledger status",
    "ledger_memory": "tallygate ledger status",
    "bus": "tallygate up  # or start the server of TALLYGATE_BUS_URL",
    "config": "tallygate config status",
    "budget_service": "tallygate audit list --limit 20",
    "files": "tallygate --version  # then what TALLYGATE_FILES_URL names: a folder that is there, a bucket that answers",
}
"""Component to what shows more; of anything else it is the lag of what it reads."""


def of_processes(status: Status) -> list[Finding]:
    """Who runs, with what, and whose reports do not fit each other."""
    reports = status.reports
    return [
        *_roles(status),
        *found("configuration", _stale(status), f"all go by offset {status.config.offset}"),
        *found("instance id", _twins(status.live), "each process has its own"),
        *found("pepper", _peppers(status), "all processes have the same"),
        *found("bus", _bus_is_ledger(status), "is not the ledger"),
        *found("clock", _clocks(reports), "within a second of the ledger's everywhere"),
        *found("schema", _schemas(reports), "all records can be read"),
        *found("component", _trouble(reports), "no process misses anything"),
    ]


def _roles(status: Status) -> Iterator[Finding]:
    for role, command in _COMMANDS.items():
        names = [each.name for each in status.live if each.role == role]
        if names:
            yield Finding(role, "", shown(names))
        elif role == "batches" and not _keeps_files(status):
            yield Finding(role, "", "none are needed: no ingress keeps files")
        else:
            run = f"tallygate {command}  # or all of them: tallygate up"
            yield Finding(role, "", "no process reports", run, may_pass=True)


def _keeps_files(status: Status) -> bool:
    """Whether clients can leave files, and have batches of them."""
    return any(report.keeps_files for report in status.reports.values())


def _stale(status: Status) -> Iterator[Finding]:
    for each in status.live:
        if (behind := status.config.offset - each.offset) > 0:
            text = f"goes by offset {each.offset} of the configuration, {behind} behind"
            run = "tallygate config status  # then its log, and what it may read in Kafka"
            yield Finding("configuration", each.name, text, run, may_pass=True)


def _twins(live: Iterable[Instance]) -> Iterator[Finding]:
    for each in live:
        report = each.report
        if report and report.twin_ms and report.at_ms - report.twin_ms <= FRESH_FOR_S * 1_000:
            command = quoted("tallygate", _COMMANDS.get(each.role, each.role))
            run = (
                f"{quoted(f'TALLYGATE_INSTANCE_ID={each.name}-b')} {command}  # for one of the two"
            )
            yield Finding("instance id", each.name, "two processes report under it", run)


def _peppers(status: Status) -> Iterator[Finding]:
    """Whose pepper is not that of the control plane, which makes the keys; without one, of the most."""
    for setting in sorted({name for each in status.reports.values() for name in each.peppers}):
        by_name = {
            each.name: (each.role, each.report.peppers[setting])
            for each in status.live
            if each.report is not None and setting in each.report.peppers
        }
        makers = [pepper for role, pepper in by_name.values() if role == "admin"]
        common = makers or [pepper for _, pepper in by_name.values()]
        ours = Counter(common).most_common(1)[0][0]
        for name, (role, pepper) in by_name.items():
            if pepper != ours:
                text = f"its {setting} is {pepper}, {ours} elsewhere: keys are not known there"
                run = f"{setting}_FILE=pepper tallygate {_COMMANDS.get(role, role)}"
                yield Finding("pepper", name, text, f"{run}  # with the file of the others")


def _bus_is_ledger(status: Status) -> Iterator[Finding]:
    ledgers = {run for each in status.reports.values() for run in each.stores.get("ledger", ())}
    for each in status.live:
        buses = each.report.stores.get("bus", ()) if each.report else ()
        if ledgers & set(buses):
            text = (
                "its bus is a server of the ledger: frames would fill it, and it must evict nothing"
            )
            run = f"TALLYGATE_BUS_URL=redis://bus:6379/0 tallygate {_COMMANDS.get(each.role, each.role)}"
            yield Finding("bus", each.name, text, f"{run}  # a server of its own")


def _clocks(reports: Mapping[str, ProcessReport]) -> Iterator[Finding]:
    """Whose clock is off; where all are off by the same, it is the ledger's."""
    local = {n: r.local_ahead_ms for n, r in reports.items() if r.local_ahead_ms is not None}
    off = {name: ms for name, ms in local.items() if abs(ms) > LOCAL_AHEAD_MAX_MS}
    run = "timedatectl set-ntp true  # on its machine"
    spread = max(local.values(), default=0) - min(local.values(), default=0)
    if len(off) > 1 and len(off) == len(local) and spread <= LOCAL_AHEAD_MAX_MS:
        text = f"its clock is {_ahead(-next(iter(off.values())))} all others"
        yield Finding("clock", "the ledger's server", text, run)
        return
    for name, ahead_ms in off.items():
        text = f"its machine's clock is {_ahead(ahead_ms)} the ledger's"
        yield Finding("clock", name, text, run, may_pass=True)
    brokers = [r.broker_ahead_ms for r in reports.values() if r.broker_ahead_ms is not None]
    if brokers and abs(worst := max(brokers, key=abs)) > BROKER_AHEAD_MAX_MS:
        text = f"its clock is {_ahead(worst)} the ledger's"
        yield Finding("clock", "a broker", text, run, may_pass=True)


def _ahead(ms: int) -> str:
    return f"{abs(ms) / 1_000:.1f} s {'ahead of' if ms > 0 else 'behind'}"


def _schemas(reports: Mapping[str, ProcessReport]) -> Iterator[Finding]:
    for name, report in reports.items():
        for component, state in report.trouble.items():
            if _UNKNOWN_SCHEMA in state:
                run = (
                    "tallygate --version  # start a newer one in its place: the record waits for it"
                )
                yield Finding("schema", name, f"{component}: {state}", run)


def _trouble(reports: Mapping[str, ProcessReport]) -> Iterator[Finding]:
    for name, report in reports.items():
        for component, state in report.trouble.items():
            if component not in _ELSEWHERE and _UNKNOWN_SCHEMA not in state:
                run = _LOOK_AT.get(component, "tallygate lag")
                yield Finding("component", name, f"{component}: {state}", run, may_pass=True)

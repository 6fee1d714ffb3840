"""Judges the ledger, the books, the configuration and the disks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from deploy.cli.doctor.facts import Disk, Gateway, Server, Shard, Status
from deploy.cli.doctor.finding import Finding, found, quoted
from schemas.readiness import OK

__all__ = ["of_config", "of_stores"]

_FRESH_MS: Final = 30_000
_FREE_MIN_BYTES: Final = 1 << 30
"""Where no ingress says below what it takes no request."""
_MARGIN: Final = 2
"""A disk is low before ingress closes its door."""


def of_stores(gateway: Gateway) -> list[Finding]:
    """The ledger and its servers, what verification found, and the disks of brokers."""
    ledger = gateway.ledger
    findings = [_books(gateway.status)]
    findings += found("disk", _disks(gateway.status), "enough is free on each")
    if ledger is None:
        away = Finding("ledger", "", "its servers do not answer", "tallygate ledger status", True)
        return [away, *findings]
    servers = f"{len(ledger.servers)} servers"
    return [
        *found("ledger", _shards(ledger.items), f"{len(ledger.items)} shards decide"),
        *found("maxmemory", _unbounded(ledger.servers), f"is set on {servers}"),
        *found("eviction", _evicting(ledger.servers), f"{servers} drop no keys"),
        *found("append-only", _forgetful(ledger.servers), f"{servers} write their files"),
        *findings,
    ]


def of_config(status: Status) -> list[Finding]:
    """Whether every entry of the configuration is in force."""
    config = status.config
    problems = [
        Finding("config", each.where, each.what, "tallygate config status  # and correct the entry")
        for each in config.problems
    ]
    if config.alarm:
        run = "tallygate config adopt  # if this log is the right one; else restore the topic"
        problems.append(Finding("config", "", config.alarm, run))
    if not config.following:
        problems.append(Finding("config", "", "is not followed", "tallygate topics list"))
    return found("config", problems, f"offset {config.offset}")


def _shards(shards: Iterable[Shard]) -> Iterator[Finding]:
    for each in shards:
        if not each.decides:
            text = f"{each.state} {each.why}".strip()
            run = "tallygate ledger status  # docs/lost-ledger.md says what it means"
            yield Finding("ledger", f"shard {each.shard}", text, run, may_pass=True)


def _unbounded(servers: Iterable[Server]) -> Iterator[Finding]:
    for each in servers:
        if not each.maxmemory_bytes:
            run = _setting(each, "maxmemory", "1gb")
            yield Finding("maxmemory", _place(each), "it has no bound of memory", run)


def _evicting(servers: Iterable[Server]) -> Iterator[Finding]:
    for each in servers:
        if each.policy != "noeviction":
            text = f"it drops keys ({each.policy}): a hold that is gone is an overspend"
            run = _setting(each, "maxmemory-policy", "noeviction")
            yield Finding("eviction", _place(each), text, run)


def _forgetful(servers: Iterable[Server]) -> Iterator[Finding]:
    for each in servers:
        if not each.appends:
            text = "appendonly is off: what it answered is gone when it ends"
            run = _setting(each, "appendonly", "yes")
            yield Finding("append-only", _place(each), text, run)
        elif each.last_write not in ("", "ok"):
            run = quoted("valkey-cli", "-p", each.port, "info", "persistence") + "  # and df"
            yield Finding("append-only", _place(each), f"its last write: {each.last_write}", run)


def _place(server: Server) -> str:
    return f"ledger server, port {server.port}"


def _setting(server: Server, name: str, value: str) -> str:
    set_it = quoted("valkey-cli", "-p", server.port, "config", "set", name, value)
    return f"{set_it}  # and into its configuration file"


def _books(status: Status) -> Finding:
    if status.books == OK:
        return Finding("books", "", "no difference is known")
    run = "tallygate ledger verify  # then tallygate requests show of each id"
    return Finding("books", "", status.books, run, may_pass=True)


def _disks(status: Status) -> Iterator[Finding]:
    told = [report.disk_free_min_bytes for report in status.reports.values()]
    least = max(told, default=0) or _FREE_MIN_BYTES
    for disk in status.disks:
        if disk.age_ms <= _FRESH_MS and disk.free_bytes < _MARGIN * least:
            text = f"{_mib(disk)} MiB are free; ingress takes no request below {least >> 20} MiB"
            yield Finding(
                "disk", f"broker {disk.host}", text, "df -h  # over there; then free space"
            )


def _mib(disk: Disk) -> int:
    return disk.free_bytes >> 20

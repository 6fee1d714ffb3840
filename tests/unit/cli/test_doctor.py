"""``tallygate doctor`` finds each way to be ill, alone, says where, and what to run; in health it finds nothing."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed
from typer.core import TyperGroup
from typer.exceptions import Exit

from deploy.cli.doctor.backends import other_addresses
from deploy.cli.doctor.facts import Disk, Entry, Ledger, Limits, Model, Seen, Shard, Target
from deploy.cli.doctor.finding import FOREIGN, Finding
from deploy.cli.doctor.machine import of_jars, of_java, of_python
from deploy.cli.main import PROGRAM, command_line
from schemas.kafka_users import KAFKA_USERS
from schemas.topic_facts import Acl
from tests.unit.cli.healthy import (
    GATEWAY,
    ILLNESSES,
    KAFKA,
    NOW_MS,
    STATUS,
    Illness,
    findings,
    probed,
    report,
    saying,
    with_backend,
    with_server,
)

HERE = [
    of_python((3, 10, 9)),
    of_java(__file__, is_there=False),  # type: ignore[arg-type]  # any text
    of_jars(__file__, is_there=False),  # type: ignore[arg-type]
]


def problems(said: list[Finding]) -> list[Finding]:
    return [finding for finding in said if not finding.is_ok]


def test_a_healthy_gateway_has_one_good_line_a_check() -> None:
    """Nothing is found where nothing is wrong, and each check says so."""
    said = findings(GATEWAY)

    assert problems(said) == []
    assert len({finding.check for finding in said}) == len(said) > 20


@pytest.mark.parametrize("name", ILLNESSES)
def test_an_illness_is_found_where_it_is_and_nowhere_else(name: str) -> None:
    """One line: what, where, and the command."""
    illness: Illness = ILLNESSES[name]
    found = problems(illness.said())

    assert [(f.check, f.where) for f in found] == [(illness.check, illness.where)]
    assert found[0].run.startswith(illness.run)
    assert "\n" not in found[0].line()
    assert f"  run: {illness.run}" in found[0].line()


def _misunderstood(run: str) -> str | None:
    """Why a remedy cannot be typed; nothing is run."""
    words = shlex.split(run, comments=True)
    while "=" in words[0]:
        words.pop(0)
    if words[0] != PROGRAM:
        return None if words[0] in FOREIGN else f"no program {words[0]}"
    command: Any = command_line()
    rest = words[1:]
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        command = command.commands[rest.pop(0)]
    try:
        command.make_context(PROGRAM, rest)
    except Exit:
        return None  # --version ends here.
    return None


def _everything() -> list[Finding]:
    """Every remedy there is: those of the illnesses, and of what else may be wrong."""
    ill = [finding for illness in ILLNESSES.values() for finding in problems(illness.said())]
    nobody = replace(GATEWAY, status=changed(STATUS, instances=()))
    trouble = dict.fromkeys(
        ("kafka", "ledger", "ledger_memory", "bus", "config", "budget_service", "other"), "away"
    )
    config = changed(STATUS.config, alarm="shorter", following=False)
    amiss = replace(GATEWAY, status=changed(STATUS, config=config, books="degraded: x"))
    closed = Ledger((Shard(1, "closed", decides=False, why="restarted"),), ())
    more = [
        findings(nobody),
        findings(saying("dispatcher", trouble=trouble)),
        findings(amiss),
        findings(replace(GATEWAY, ledger=closed)),
        findings(replace(GATEWAY, ledger=None)),
        findings(with_server(maxmemory_bytes=0)),
        findings(with_server(last_write="err")),
        findings(probed("TimeoutError", "unhealthy")),
        findings(saying("admin", certificates={"/etc/own.pem": 1})),
        HERE,
    ]
    return ill + [finding for said in more for finding in problems(said)]


def test_every_remedy_can_be_typed() -> None:
    """With the real command line; programs of others are those of a short list."""
    remedies = {part for f in _everything() for part in f.run.split(" && ")}

    assert len(remedies) > 30
    assert [said for run in sorted(remedies) if (said := _misunderstood(run))] == []


def test_a_remedy_that_nobody_understands_is_noticed() -> None:
    """The guard itself."""
    assert _misunderstood("rm -rf /") == "no program rm"
    with pytest.raises(KeyError):
        _misunderstood("tallygate bakcends check")


def test_what_others_chose_stays_one_word_and_one_line() -> None:
    """A name of a model is no part of a command, and moves no cursor."""
    model = Model("a b; rm -rf \x1b[2J\n", (Target("gpu-1"),))
    (found,) = problems(findings(replace(GATEWAY, models=(model,))))

    assert shlex.split(found.run, comments=True)[3] == "a b; rm -rf \\x1b[2J\\n"
    assert "\n" not in found.line()
    assert "\x1b" not in found.line()


def test_processes_of_an_earlier_version_are_no_finding() -> None:
    """They report less, and nothing is made of what they do not say."""
    instances = tuple(changed(each, report=None) for each in STATUS.instances)

    assert problems(findings(replace(GATEWAY, status=changed(STATUS, instances=instances)))) == []


def test_a_clock_that_all_others_differ_from_is_the_ledgers() -> None:
    """One line, not five."""
    reports = {r: changed(report(r), local_ahead_ms=9_000) for r in KAFKA_USERS}
    instances = tuple(changed(each, report=reports[each.role]) for each in STATUS.instances)
    found = problems(findings(replace(GATEWAY, status=changed(STATUS, instances=instances))))

    assert [(f.check, f.where) for f in found] == [("clock", "the ledger's server")]
    assert "behind all others" in found[0].text


def test_a_process_that_was_replaced_is_no_twin() -> None:
    """What it found long ago is past."""
    assert problems(findings(saying("ingress", twin_ms=NOW_MS - 20_000))) == []


def test_rights_are_read_as_the_broker_reads_them() -> None:
    """Wildcards and prefixes allow, one denial outweighs them; who reads may describe."""
    wide = [
        Acl("User:*", "topic", "*", "literal", "all"),
        Acl("User:*", "group", "tallygate-", "prefixed", "read"),
    ]
    assert problems(findings(GATEWAY, replace(KAFKA, acls=wide))) == []
    denial = Acl("User:ingress", "topic", "audit.router", "literal", "write", is_denial=True)
    found = problems(findings(GATEWAY, replace(KAFKA, acls=[*wide, denial])))
    assert [(f.check, f.where) for f in found] == [("acl", "topic audit.router")]
    assert problems(findings(GATEWAY, replace(KAFKA, acls=None))) == []


def test_a_topic_that_keeps_more_is_no_finding() -> None:
    """Longer is an operator's choice."""
    topics = [
        replace(t, settings={**t.settings, "retention.ms": "-1", "retention.bytes": "-1"})
        for t in KAFKA.topics
    ]
    assert problems(findings(GATEWAY, replace(KAFKA, topics=topics))) == []


def test_a_model_is_unpriced_only_where_somebody_with_a_budget_may_use_it() -> None:
    """Keys that may use other models only, and organizations without money, are no reason."""
    unpriced = replace(GATEWAY, models=(Model("echo", (Target("gpu-1"),)),))

    def found(**principals: tuple[Entry, ...]) -> list[str]:
        said = replace(unpriced, principals={**GATEWAY.principals, **principals})
        return [finding.check for finding in problems(findings(said))]

    limited = Limits(budgets=(1,))
    assert found(keys=(Entry("k", org="acme", models=("other",)),)) == []
    assert found(orgs=(Entry("acme"),)) == []
    assert found(orgs=(Entry("acme"),), keys=(Entry("k", limited, org="acme"),)) == ["price"]
    assert found(orgs=(Entry("acme", budget_service={"while_down": "deny"}),)) == ["price"]
    assert found(keys=()) == ["price"]


def test_a_backend_without_a_list_is_no_finding() -> None:
    """Not every server has one."""
    assert problems(findings(probed("status 404"))) == []


@pytest.mark.parametrize("said", ["no such host", "connection refused", "no TLS there"])
def test_an_address_where_nobody_is_is_told_once(said: str) -> None:
    """It is down for its models, too, which is another line."""
    found = problems(findings(probed(said, "unhealthy")))

    assert [f.check for f in found] == ["backend url", "model"]


def test_a_drained_backend_is_not_looked_at() -> None:
    """Whoever drained it knows why; only a model without another one is told."""
    seen = (Seen("dispatcher-0", "unhealthy", probe="status 401"),)
    other = changed(GATEWAY.backends[0], id="gpu-2")
    gateway = with_backend(drained=True, health=seen)
    model = Model("echo", (Target("gpu-1"), Target("gpu-2")), "1", "1")

    assert (
        problems(findings(replace(gateway, backends=(*gateway.backends, other), models=(model,))))
        == []
    )


@pytest.mark.parametrize(
    ("url", "others"),
    [
        ("http://h:1", ["http://h:1/v1"]),
        ("http://h:1/v2", ["http://h:1/v2/v1", "http://h:1/v1", "http://h:1"]),
        ("http://h:1/api/v1/", ["http://h:1/api/v1/v1", "http://h:1/api"]),
    ],
)
def test_near_addresses_are_with_and_without_a_version(url: str, others: list[str]) -> None:
    """What people forget, or write twice."""
    assert other_addresses(url) == others


def test_a_report_of_a_disk_that_is_old_tells_nothing() -> None:
    """Whoever wrote it is gone."""
    disks = (Disk("10.0.0.1", 1, 2, 60_000),)
    assert problems(findings(replace(GATEWAY, status=changed(STATUS, disks=disks)))) == []

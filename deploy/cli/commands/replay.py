"""``tallygate replay``: reads a range of the log again, into shadows, and says what differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deploy.cli.brokers import brokers_of
from deploy.cli.command import Call, command, noun
from deploy.cli.options import rate
from deploy.cli.output import CommandFailed, Exit, shown
from deploy.cli.paths import entity_path
from deploy.cli.replay_options import RangeOptions
from deploy.cli.table import Table, table

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from deploy.replay.pace import Pace
    from deploy.replay.run import Asked

_OUTCOMES = "inference.outcomes.v1"
_REQUESTS = "inference.requests.v1"
_STRETCHES = ("partition", "begin", "end", "records", "notes")
_SUMS = ("org", "key", "model", "measure", "fold", "live", "difference")
_PERIODS = ("org", "balance", "fold", "live", "difference")
_LINES = ("usage_id", "org", "why", "fields")
_TABLES = {
    "sums": _SUMS,
    "periods": _PERIODS,
    "lines": _LINES,
    "changes": ("was", "now", "requests"),
    "changed": ("request_id", "org", "key", "model", "was", "now", "why"),
    "refusals": ("id", "why"),
}

APP = noun("replay", "The log read again, into shadows.")


@command(
    APP,
    "plan",
    "tallygate replay plan",
    "tallygate replay plan --range @-48h:-24h --org acme",
    "tallygate replay plan --topic inference.requests.v1 --range 3/100:200",
)
def plan(call: Call, *, options: RangeOptions) -> int:
    """Say what a replay would read; nothing is done.

    With filters it reads the range to count what they choose. Exit code 3 when nothing would be replayed.
    """
    from deploy.replay.run import plan_replay  # noqa: PLC0415

    asked = _asked(call, options)
    document = _watched(call, "counting", lambda watch: plan_replay(asked, watch))
    rows = [
        {**each, "records": each["end"] - each["begin"], "notes": "; ".join(each["notes"])}
        for each in document["stretches"]
    ]
    parts: list[str | Table] = [
        f"topic {document['topic']}",
        table(_STRETCHES, rows),
        f"records {document['records']}",
    ]
    if "selected" in document:
        parts.append(f"of {document['filters']}: {document['selected']}")
        parts.append(f"undecodable {document['undecodable']}")
    call.output.result(document, *(shown(p) if isinstance(p, str) else p for p in parts))
    return Exit.OK if document.get("selected", document["records"]) else Exit.PARTIAL


@command(
    APP,
    "run",
    "tallygate replay run --as accounting",
    "tallygate replay run --as accounting --range @-48h:-24h --org acme",
    "tallygate replay run --as copy --to outcomes.of.monday --range @2026-11-23:2026-11-24",
)
def run(
    call: Call,
    *,
    role: Annotated[
        Literal["accounting", "limiter", "copy"] | None,
        typer.Option(
            "--as", help="accounting: fold and compare; limiter: decide again; copy: append to --to"
        ),
    ] = None,
    effect: Annotated[
        Literal["retry-dead-letters"] | None,
        typer.Option(
            help="instead, do this to what stands in the range; the only way to do anything"
        ),
    ] = None,
    options: RangeOptions,
    to: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="where a copy goes; made, if need be")
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="TALLYGATE_LEDGER_URL",
            help="the ledger's store; the default is that of the running `tallygate up`",
        ),
    ] = None,
    per_s: Annotated[
        float | None,
        typer.Option("--rate", parser=rate, metavar="N", help="at most so many records a second"),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="where it keeps how far it is, to go on after a kill"),
    ] = None,
) -> int:
    """Replay a range without any effect, and say what differs.

    Killed, it goes on where it was when the same command is run again. The limiter decides under the
    configuration in force now.
    Exit code 1 when something differs, 3 when a record could not be read or something could not be compared.
    """
    from deploy.replay.run import checkpoint_of, run_replay  # noqa: PLC0415

    if (role is None) == (effect is None):
        raise CommandFailed(
            "it is not said what the replay is",
            "one of --as and --effect says it",
            "--as accounting compares the books and does nothing else",
            Exit.USAGE,
        )
    asked = _asked(call, options, role or effect or "", to, ledger, per_s)
    file = checkpoint or checkpoint_of(_state_folder(), asked.said)
    document = _watched(
        call, "replaying", lambda watch: run_replay(asked, file, watch, call.output.tell)
    )
    call.output.result(document, *_parts(shown(document)))
    return _exit(document)


def _asked(
    call: Call,
    options: RangeOptions,
    role: str = "plan",
    to: str | None = None,
    ledger: str | None = None,
    per_s: float | None = None,
) -> Asked:
    """What the command line asks for. Raises ``CommandFailed``."""
    from deploy.replay.ranges import RangeError, parse_range  # noqa: PLC0415
    from deploy.replay.run import Asked  # noqa: PLC0415
    from deploy.replay.selection import Selection  # noqa: PLC0415
    from schemas.runtime.process.clock import Clock  # noqa: PLC0415

    try:
        wanted = parse_range(options.spans or (), Clock().local_ms())
    except RangeError as error:
        raise CommandFailed(
            "the range is not understood",
            shown(str(error)),
            "see tallygate replay plan --help",
            Exit.USAGE,
        ) from error
    selection = Selection.of(options.org or (), options.model or (), options.status or ())
    topic = options.topic or (_REQUESTS if role == "limiter" else _OUTCOMES)
    said = [role, topic, *(options.spans or ()), str(selection), to or ""]
    return Asked(
        brokers=brokers_of(call, options.brokers),
        topic=topic,
        wanted=wanted,
        selection=selection,
        said=" ".join(part for part in said if part),
        role=role,
        to=to,
        ledger_url=_ledger_url(ledger) if role in ("accounting", "limiter") else "",
        per_s=per_s,
        letters=_Letters(call) if role == "retry-dead-letters" else None,
    )


class _Letters:
    """Dead letters, by the admin API."""

    def __init__(self, call: Call) -> None:
        self._admin = call.admin()

    def is_retried(self, letter: str) -> bool:
        """Whether the letter was given another try before."""
        return self._admin.get(entity_path("dlq", letter))["retried_at_ms"] is not None

    def retry(self, letter: str) -> None:
        """Give it one. Raises ``ReplayProblem``."""
        from deploy.replay.problem import ReplayProblem  # noqa: PLC0415

        try:
            self._admin.post(f"{entity_path('dlq', letter)}/retry", {"again": False})
        except CommandFailed as refused:
            if refused.code is not Exit.REFUSED:
                raise
            raise ReplayProblem(*refused.args) from refused


def _ledger_url(said: str | None) -> str:
    from deploy.cli.address import current_stack  # noqa: PLC0415
    from deploy.embedded.state import UserFolders  # noqa: PLC0415

    found = said or current_stack(UserFolders().current).get("ledger_url")
    if not found:
        raise CommandFailed(
            "no ledger is known, and the fold is compared with its tables",
            "there is no --ledger, no TALLYGATE_LEDGER_URL, and no `tallygate up` is running",
            "name the store that accounting is given",
            Exit.USAGE,
        )
    return found


def _state_folder() -> Path:
    from deploy.embedded.state import UserFolders  # noqa: PLC0415

    return UserFolders().state


def _watched(
    call: Call,
    what: str,
    work: Callable[[Callable[[Pace], None]], Coroutine[Any, Any, dict[str, Any]]],
) -> dict[str, Any]:
    """The document, with a bar beside it on a terminal. Raises ``CommandFailed``."""
    import asyncio  # noqa: PLC0415 - help waits for no library

    from deploy.replay.problem import ReplayProblem  # noqa: PLC0415

    paces: list[Pace] = []
    try:
        with call.output.progress_of(what, lambda: paces[-1].measure() if paces else None):
            return asyncio.run(work(paces.append))
    except KeyboardInterrupt:
        call.output.tell("interrupted: the same command goes on where it was")
        raise
    except ReplayProblem as problem:
        code = Exit.USAGE if problem.is_usage else Exit.FAILURE
        what, why, fix = (str(shown(text)) for text in (problem.what, problem.why, problem.fix))
        raise CommandFailed(what, why, fix, code) from problem


def _exit(document: dict[str, Any]) -> int:
    if document["difference"]:
        return Exit.FAILURE
    is_partial = any(document.get(name) for name in _PARTIAL)
    return Exit.OK if document["selected"] and not is_partial else Exit.PARTIAL


_PARTIAL = ("undecodable", "undecodable_lines", "gone", "not_compared", "notes", "refused")
"""What a difference of 0 does not speak for."""


def _parts(document: dict[str, Any]) -> list[str | Table]:
    parts: list[str | Table] = [
        f"replay {document['replay_id']} of {document['topic']} as {document['as']}",
        f"read {document['read']} records within {document['seconds']} s, selected {document['selected']}",
    ]
    if document["as"] == "accounting":
        parts.append(
            f"booked {document['booked']}, copies of earlier ones {document['duplicates']}"
        )
    if document["as"] == "limiter":
        parts.append(
            f"judged {document['judged']}, under the configuration at {document['config_offset']}"
        )
        parts += [f"not judged {n}: {why}" for why, n in document["not_judged"].items()]
    if "effect" in document:
        parts.append(
            f"retried {document['retried']}, before {document['retried_before']}, refused {document['refused']}"
        )
    if not document["selected"]:
        parts.append(f"nothing matched: no record of the range is of {document['filters']}")
    if document["totals"]:
        parts += ["", table(tuple(document["totals"][0]), document["totals"]), ""]
    parts += _named(document)
    for name, columns in _TABLES.items():
        if document.get(name):
            parts += [table(columns, map(_row, document[name])), ""]
    return [*parts, f"difference {document['difference']}"]


def _named(document: dict[str, Any]) -> list[str | Table]:
    """What could not be read or compared, each with its name."""
    named = [
        f"{each['id']} cannot be read: {each['why']}" for each in document["undecodable_named"]
    ]
    named += [f"{each} cannot be read" for each in document.get("undecodable_lines_named", ())]
    if document["undecodable"] > len(document["undecodable_named"]):
        named.append(f"undecodable {document['undecodable']}, of which the first are named")
    if document["gone"]:
        named.append(f"retention took {document['gone']} records before they were read")
    for each in document.get("not_compared", ()):
        named.append(f"{each['tables']} tables were not compared: {each['why']}")
    return [*named, *document.get("notes", ())]


def _row(found: dict[str, Any]) -> dict[str, Any]:
    row = dict(found)
    if "fold" in row and "live" in row:
        row["difference"] = row["fold"] - row["live"]
    if "fields" in row:
        row["fields"] = "; ".join(
            f"{name} {each['live']} live, {each['fold']} in the fold"
            for name, each in row["fields"].items()
        )
    return row

"""``tallygate ledger``: the proof that no cent is missing, the state of each shard, and to have shards rebuilt."""

from __future__ import annotations

from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.options import decimal
from deploy.cli.output import CommandFailed, Exit, shown
from deploy.cli.scan_progress import scan_progress
from deploy.cli.table import Table, table
from schemas.printable import one_line

if TYPE_CHECKING:
    from deploy.cli.client import AdminClient

_COLUMNS = ("org", "what", "field", "ledger", "log", "difference")
_REQUEST_COLUMNS = ("what", "field", "because", "request")
_ROW_COLUMNS = ("hour", "row", "ledger", "log")
_COMPARED = ("equal", "differs")
_UNBOOKED_COLUMNS = ("org", "req", "finished_ms")
_SHARD_COLUMNS = ("shard", "state", "why", "step", "records", "epoch", "booked")
_TRIAL_COLUMNS = ("shard", "org", "balance", "ledger", "log")
_REBUILT_WITHIN_S = 600.0
_POLL_S = 0.5
_ANSWER_MARGIN_S = 700.0
"""The log is read before that; what takes longer is read on by the next verification."""

APP = noun("ledger", "Balances and their proof.")


@command(
    APP,
    "verify",
    "tallygate ledger verify",
    "tallygate ledger verify --deadline-s 60 --json",
    "tallygate ledger verify --full",
)
def verify(
    call: Call,
    *,
    deadline_s: Annotated[
        float, typer.Option(parser=decimal, metavar="N", help="how long accounting may catch up")
    ] = 15.0,
    full: Annotated[
        bool, typer.Option("--full", help="read the whole log anew, not on from the checkpoint")
    ] = False,
) -> int:
    """Compare balances, usage tables and the log.

    The log is read on from where the last verification ended. Exit code 1 when they differ, 3 when a shard of
    the ledger cannot be compared now. The control plane does the same every minute, and alarms.
    """
    params = given(deadline_s=str(deadline_s), full="true" if full else None)
    admin = call.admin()
    with call.output.progress_of(
        "comparing balances with the log", lambda: scan_progress(admin, "ledger-verify")
    ):
        answer: dict[str, Any] = admin.get(
            "/ledger/verify", params, timeout_s=deadline_s + _ANSWER_MARGIN_S
        )
    why_anew = answer.get("checkpoint", {}).get("made_anew")
    if why_anew:
        call.output.tell(
            f"the log was read from its beginning; checkpoint: {one_line(str(why_anew))}"
        )
    call.output.result(answer, *_parts(shown(answer)))
    if answer["difference"]:
        return Exit.FAILURE
    return Exit.OK if all(shard["state"] == "equal" for shard in answer["shards"]) else Exit.PARTIAL


@command(APP, "status", "tallygate ledger status", "tallygate ledger status --json")
def status(call: Call) -> int:
    """Show the state of each shard of the ledger.

    Exit code 3 when one does not decide now.
    """
    answer = call.admin().get("/ledger/shards")
    call.output.result(answer, table(_SHARD_COLUMNS, shown(answer)["items"]))
    return Exit.OK if all(each["decides"] for each in answer["items"]) else Exit.PARTIAL


@command(
    APP,
    "rebuild",
    "tallygate ledger rebuild --dry-run",
    "tallygate ledger rebuild --shard 3",
)
def rebuild(
    call: Call,
    *,
    shard: Annotated[
        int | None, typer.Option(metavar="N", help="only this shard of the ledger")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="compare with the log, and write nothing")
    ] = False,
) -> int:
    """Have shards of the ledger made again from the log.

    A shard decides nothing until it is done, which takes seconds. Accounting does it, as it does by itself whenever
    a shard is not what the log says. Exit code 1 when a dry run finds a difference, 3 when it is not done in time.
    """
    admin = call.admin()
    asked = admin.post("/ledger/rebuild", given(shard=shard, dry_run=dry_run or None))
    what = "comparing shards with the log" if dry_run else "rebuilding shards from the log"
    with call.output.progress_of(what, lambda: _done_of(admin, asked)):
        items = _awaited(admin, asked)
    if items is None:
        call.output.tell("not done yet; see `tallygate ledger status`")
        return Exit.PARTIAL
    value = {"shards": items}
    found = [each["found"] for each in items if dry_run]
    differences = [{"shard": each["shard"], **one} for each in found for one in each["differences"]]
    if not dry_run:
        call.output.result(value, table(_SHARD_COLUMNS, shown(items)))
        return Exit.OK
    text = f"{len(differences)} of {sum(each['balances'] for each in found)} balances differ"
    call.output.result(value, table(_TRIAL_COLUMNS, shown(differences)), text)
    return Exit.FAILURE if differences else Exit.OK


def _awaited(admin: AdminClient, asked: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The shards that were asked, once each is done; ``None`` when that takes too long."""
    until_s = monotonic() + _REBUILT_WITHIN_S
    while True:
        items = _asked(admin, asked)
        if all(_is_done(each, asked) for each in items):
            return items
        if monotonic() > until_s:
            return None
        sleep(_POLL_S)


def _done_of(admin: AdminClient, asked: dict[str, Any]) -> tuple[int, int] | None:
    try:
        items = _asked(admin, asked)
    except CommandFailed:
        return None  # Whoever waits for it says what is wrong.
    return sum(_is_done(each, asked) for each in items), len(items)


def _asked(admin: AdminClient, asked: dict[str, Any]) -> list[dict[str, Any]]:
    items = admin.get("/ledger/shards")["items"]
    return [each for each in items if each["shard"] in asked["shards"]]


def _is_done(shard: dict[str, Any], asked: dict[str, Any]) -> bool:
    if asked["trial"] is not None:
        return bool(shard.get("trial") == asked["trial"])
    return bool(shard["decides"])


def _parts(answer: dict[str, Any]) -> list[str | Table]:
    attempts = answer["open_attempts"]
    parts: list[str | Table] = [
        f"organizations {answer['organizations']}",
        f"usage lines {answer['usage_lines']} since {answer['since']}",
        f"open attempts {attempts['reserved']} reserved, {attempts['running']} running",
    ]
    if answer["differences"]:
        parts += [
            "",
            table(_COLUMNS, answer["differences"]),
            "",
            *_explained(answer["differences"]),
        ]
    if answer["settled_not_booked"]:
        parts += [
            "settled, not booked:",
            table(_UNBOOKED_COLUMNS, answer["settled_not_booked"]),
            "",
        ]
    parts += [
        f"shard {shard['shard']} is {shard['state']}: {shard['why']}"
        for shard in answer["shards"]
        if shard["state"] not in _COMPARED
    ]
    return [*parts, f"difference {answer['difference']}"]


def _explained(differences: list[dict[str, Any]]) -> list[str | Table]:
    """Which requests explain them, and which rows of an hour differ."""
    requests = [
        {
            "what": each["what"],
            "field": each["field"],
            "because": found["because"],
            "request": request,
        }
        for each in differences
        if (found := each.get("explanation"))
        for request in found["requests"]
    ]
    rows = {
        (each["what"], *row)
        for each in differences
        for row in each.get("explanation", {}).get("rows", ())
    }
    parts: list[str | Table] = []
    if requests:
        parts += ["requests that explain them:", table(_REQUEST_COLUMNS, requests), ""]
    if rows:
        shown_rows = [dict(zip(_ROW_COLUMNS, row, strict=True)) for row in sorted(rows)]
        parts += ["rows that differ:", table(_ROW_COLUMNS, shown_rows), ""]
    return parts

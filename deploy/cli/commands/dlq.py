"""``tallygate dlq``: count dead letters, show one, give one another try."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.options import Payload, positive
from deploy.cli.output import Exit, shown
from deploy.cli.paths import entity_path
from deploy.cli.table import Table, table
from schemas.printable import one_line

_TOPIC_COLUMNS = ("topic", "count", "newest")
_LETTER_COLUMNS = ("id", "at", "key", "stage", "error", "message", "attempts", "bytes")
_Letter = Annotated[str, typer.Argument(metavar="ID", help="as in the list")]

APP = noun("dlq", "Dead letters: records that no worker could handle.")


@command(APP, "list", "tallygate dlq list", "tallygate dlq list --limit 50 --json")
def show_all(
    call: Call,
    *,
    limit: Annotated[
        int | None, typer.Option(parser=positive, metavar="N", help="so many per topic (10)")
    ] = None,
) -> int:
    """Count them per topic and list the newest."""
    found = call.admin().get("/dlq", given(limit=limit))
    letters = [letter for topic in found["items"] for letter in topic["newest"]]
    parts: list[str | Table] = [table(_TOPIC_COLUMNS, map(_topic_row, found["items"]))]
    if letters:
        parts += ["", table(_LETTER_COLUMNS, map(_letter_row, letters))]
    call.output.result(found, *parts)
    return Exit.OK


@command(APP, "show", "tallygate dlq show inference.requests.v1.dlq-2@14 --payload")
def show(call: Call, letter_id: _Letter, *, payload: Payload = False) -> int:
    """Show one: why it is here and what is in it."""
    params = {"payload": "true"} if payload else None
    letter = call.admin().get(entity_path("dlq", letter_id), params)
    call.output.result(letter, "\n".join(_letter_lines(letter)))
    return Exit.OK


@command(
    APP,
    "retry",
    "tallygate dlq retry inference.requests.v1.dlq-2@14 --dry-run",
    "tallygate dlq retry inference.requests.v1.dlq-2@14",
)
def retry(
    call: Call,
    letter_id: _Letter,
    *,
    again: Annotated[bool, typer.Option("--again", help="although it was retried")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> int:
    """Append it to its topic again, as it was."""
    body = {"again": again, "dry_run": dry_run}
    answer = call.admin().post(f"{entity_path('dlq', letter_id)}/retry", body)
    told = shown(answer)
    if dry_run:
        text = f"would append {told['bytes']} bytes to {told['topic']}"
    else:
        text = f"appended to {told['topic']}-{told['partition']}@{told['offset']}"
    call.output.result(answer, text)
    if "warning" in told:
        call.output.tell(f"warning: {told['warning']}")
    return Exit.OK


def _topic_row(topic: Mapping[str, Any]) -> dict[str, Any]:
    newest = topic["newest"]
    return {**topic, "newest": _time(newest[0]["at_ms"]) if newest else None}


def _letter_row(letter: Mapping[str, Any]) -> dict[str, Any]:
    return {**letter, "at": _time(letter["at_ms"])}


def _letter_lines(letter: Mapping[str, Any]) -> Iterable[str]:
    facts = {"id": letter["id"], "at": _time(letter["at_ms"]), "key": letter["key"]}
    facts |= {"request": letter["request_id"], **letter["reason"], "attempts": letter["attempts"]}
    if letter["retried_at_ms"] is not None:
        facts["retried"] = _time(letter["retried_at_ms"])
    facts |= {f"header {name}": value for name, value in letter["headers"].items()}
    width = max(len(one_line(name)) for name in facts)
    told = shown(facts)
    yield from (f"{n:<{width}}  {'-' if v is None else v}" for n, v in told.items())
    yield ""
    if "malformed" in letter:
        cut = " and more" if letter["is_cut"] else ""
        yield f"not a record: {one_line(letter['malformed'])}"
        yield f"{letter['bytes']} bytes, hex: {one_line(letter['hex'])}{cut}"
    else:
        yield one_line(letter["type"])
        yield json.dumps(letter["value"], indent=2)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="seconds")

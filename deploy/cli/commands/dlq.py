"""``tallygate dlq``: count dead letters, show one, give one another try."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from deploy.cli.command import Call, Commands, add_command, add_group, given, positive
from deploy.cli.output import Exit, shown, table
from deploy.cli.paths import entity_path
from schemas.printable import one_line

_TOPIC_COLUMNS = ("topic", "count", "newest")
_LETTER_COLUMNS = ("id", "at", "key", "stage", "error", "message", "attempts", "bytes")


def register(commands: Commands) -> None:
    """Add the commands."""
    dlq = add_group(commands, "dlq", "dead letters: records that no worker could handle")
    list_parser = add_command(dlq, "list", "count them per topic and list the newest", show_all)
    list_parser.add_argument("--limit", type=positive, metavar="N", help="so many per topic (10)")
    show_parser = add_command(dlq, "show", "show one: why it is here and what is in it", show)
    show_parser.add_argument("id", help="as in the list")
    show_parser.add_argument("--payload", action="store_true", help="show texts, not their sizes")
    retry_parser = add_command(dlq, "retry", "append it to its topic again, as it was", retry)
    retry_parser.add_argument("id", help="as in the list")
    retry_parser.add_argument("--again", action="store_true", help="although it was retried")
    retry_parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def show_all(call: Call) -> int:
    found = call.admin().get("/dlq", given(limit=call.options.limit))
    letters = [letter for topic in found["items"] for letter in topic["newest"]]
    text = table(_TOPIC_COLUMNS, map(_topic_row, found["items"]))
    if letters:
        text += "\n\n" + table(_LETTER_COLUMNS, map(_letter_row, letters))
    call.output.result(found, text)
    return Exit.OK


def show(call: Call) -> int:
    params = {"payload": "true"} if call.options.payload else None
    letter = call.admin().get(entity_path("dlq", call.options.id), params)
    call.output.result(letter, "\n".join(_letter_lines(letter)))
    return Exit.OK


def retry(call: Call) -> int:
    options = call.options
    body = {"again": options.again, "dry_run": options.dry_run}
    answer = call.admin().post(f"{entity_path('dlq', options.id)}/retry", body)
    if options.dry_run:
        text = f"would append {answer['bytes']} bytes to {answer['topic']}"
    else:
        text = f"appended to {answer['topic']}-{answer['partition']}@{answer['offset']}"
    call.output.result(answer, text)
    if "warning" in answer:
        call.output.tell(f"warning: {answer['warning']}")
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
        yield f"{letter['bytes']} bytes, hex: {letter['hex']}{cut}"
    else:
        yield letter["type"]
        yield json.dumps(letter["value"], indent=2)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="seconds")

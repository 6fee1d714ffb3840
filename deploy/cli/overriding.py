"""Overrides on the command line: until when and why they are asked for, how they are sent, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from deploy.cli.command import Call, given
from deploy.cli.options import duration, moment_ms
from deploy.cli.output import CommandFailed, Exit, shown
from deploy.cli.table import Table, table

_COLUMNS = ("kind", "of", "what", "until", "by", "reason", "state")


@dataclass(frozen=True)
class OverrideOptions:
    """Until when an override holds, and why it is made."""

    for_s: Annotated[
        float | None,
        typer.Option(
            "--for",
            parser=duration,
            metavar="SPAN",
            help="it ends by itself after 90s, 30m, 2h, 1d",
        ),
    ] = None
    until: Annotated[
        int | None,
        typer.Option(parser=moment_ms, metavar="TIME", help="it ends by itself then; RFC 3339"),
    ] = None
    reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="why; it stands in the list and in audit events"),
    ] = None

    def fields(self) -> dict[str, Any]:
        """As the admin API takes them. Raises ``CommandFailed`` for two ends."""
        if self.for_s is not None and self.until is not None:
            raise CommandFailed(
                "an override has one end",
                "--for and --until were both given",
                "name one of them",
                Exit.USAGE,
            )
        return given(for_s=self.for_s, expires_at_ms=self.until, reason=self.reason)


def override_path(kind: str, name: str) -> str:
    """The path of an override, whose id may contain slashes."""
    return f"/overrides/{kind}/{quote(name, safe='', errors='surrogatepass')}"


def put_in_force(call: Call, kind: str, name: str, options: OverrideOptions, **fields: Any) -> int:
    """Put an override in force and say since and until when."""
    answer = call.admin().put(override_path(kind, name), fields | options.fields())
    body = shown(answer)["body"]
    until = time_text(body["expires_at_ms"]) or "restored"
    return tell_applied(call, answer, f"{kind} of {name} holds until {until}")


def tell_applied(call: Call, answer: Mapping[str, Any], text: str) -> int:
    """Say what was written and whether every process goes by it; exit code 3 when not all do yet."""
    after_ms = answer.get("applied_after_ms")
    everywhere = "" if after_ms is None else f"; in force everywhere after {after_ms / 1_000:.2f} s"
    call.output.result(answer, text + everywhere)
    for warning in answer.get("warnings", ()):
        call.output.tell(f"warning: {shown(warning)}")
    if answer.get("applied"):
        return Exit.OK
    call.output.tell("warning: not every process goes by it yet; see `tallygate config status`")
    return Exit.PARTIAL


def overrides_table(items: Iterable[Mapping[str, Any]]) -> Table:
    """Overrides, a line each."""
    return table(_COLUMNS, map(_row, items))


def time_text(at_ms: int | None) -> str | None:
    """A time for people, in UTC."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": item["kind"],
        "of": item["id"],
        "what": item["what"],
        "until": time_text(item.get("expires_at_ms")) or "restored",
        "by": item["by"],
        "reason": item.get("reason"),
        "state": "in force" if item["in_force"] else item["why_not"],
    }

"""``tallygate prices``: price lists of models, and those of LiteLLM's public price file.

Nothing is written unless everything is valid. Each write names the version it was decided against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from deploy.cli.command import Call, command, noun
from deploy.cli.output import CommandFailed, Exit
from deploy.cli.table import table
from deploy.desired_state.views import written_fields
from schemas.printable import one_line

_SOURCE: Final = "https://github.com/BerriAI/litellm: model_prices_and_context_window.json"
_File = Annotated[Path, typer.Argument(metavar="FILE", help="LiteLLM's price file")]
_Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME[=FILE'S NAME]",
        help="only these models; repeatable. By default all that have a name of the file",
    ),
]
_Day = Annotated[
    str | None,
    typer.Option("--from", metavar="DATE", help="in force from then on, UTC; by default at once"),
]

APP = noun("prices", "Price lists: what models cost, by kind of token, tier and date.")


@dataclass(frozen=True)
class _Planned:
    """What the file makes of one model."""

    name: str
    current: dict[str, Any]
    body: dict[str, Any]
    changes: Sequence[tuple[str, str | None, str | None]]
    unused: Sequence[str]
    rounded: Sequence[str]

    def view(self) -> dict[str, Any]:
        """As JSON."""
        changes = [{"what": what, "old": old, "new": new} for what, old, new in self.changes]
        said = {"unused": list(self.unused), "rounded_up": list(self.rounded)}
        return {"model": self.name, "changes": changes} | said

    def text(self) -> str:
        """As lines: the model, its rates, and what of the file has no place."""
        lines = [f"{'~' if self.changes else '='} {self.name}"]
        lines += [f"    {what}: {old or '-'} -> {new or '-'}" for what, old, new in self.changes]
        lines += [f"    not used of the file: {key}" for key in self.unused]
        lines += [f"    rounded up to 1e-9 USD: {key}" for key in self.rounded]
        return "\n".join(map(one_line, lines))


@command(APP, "show", "tallygate prices show gpt-x")
def show(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="MODEL", help="what clients call it")],
) -> int:
    """Show the price list of a model.

    Each line is what one service tier bills from one number of input tokens on, in USD per million tokens, with
    fall-backs applied. A model without a price has no line.
    """
    from deploy.price_files.changes import COLUMNS, rows_of  # noqa: PLC0415 - help needs no rules

    model = call.admin().entity("models", name)
    if model is None:
        raise CommandFailed(
            f"there is no model {name}",
            "its price is part of it",
            "`tallygate models list` shows them",
            Exit.USAGE,
        )
    try:
        rows = rows_of(name, model)
    except ValueError as error:
        raise CommandFailed(
            f"the price of {name} is not understood",
            str(error),
            "use the `tallygate` of the gateway's own version",
        ) from error
    used = [c for c in COLUMNS if any(row.get(c) not in (None, 0) for row in rows)]
    call.output.result({"model": name, "prices": rows}, table(used or COLUMNS, rows))
    return Exit.OK


@command(
    APP,
    "diff",
    "tallygate prices diff prices.json",
    "tallygate prices diff prices.json --model gpt-x=azure/gpt-x --from 2026-12-01",
)
def diff(call: Call, file: _File, *, model: _Models = None, day: _Day = None) -> int:
    """Show what `import` would change."""
    _report(call, _planned(call, file, model or [], day), is_applied=False)
    return Exit.OK


@command(
    APP,
    "import",
    "tallygate prices import prices.json",
    "tallygate prices import prices.json --model gpt-x=azure/gpt-x --from 2026-12-01",
)
def import_(call: Call, file: _File, *, model: _Models = None, day: _Day = None) -> int:
    """Give models the prices of LiteLLM's price file.

    With a date the entry is added to a model's list; without one it replaces the list. What was admitted before
    keeps the price that it was admitted at. Exit code 3 when some models were written and a later one was refused.
    """
    planned = _planned(call, file, model or [], day)
    writes = [each for each in planned if each.changes]
    admin = call.admin()
    for done, each in enumerate(writes):
        try:
            admin.put_over("models", each.name, each.current, each.body)
        except CommandFailed as failure:
            call.output.tell(f"{done} of {len(writes)} models were written, then:")
            raise failure.with_code(Exit.PARTIAL if done else failure.code) from failure
    _report(call, planned, is_applied=True)
    return Exit.OK


def _planned(call: Call, file: Path, names: Sequence[str], day: str | None) -> list[_Planned]:
    from deploy.price_files.litellm import read_file  # noqa: PLC0415 - help needs no rules

    try:
        listed = read_file(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandFailed(
            f"{file} is no price file", str(error), f"take the one of {_SOURCE}", Exit.USAGE
        ) from error
    current = {item["id"]: item for item in call.admin().get("/models")["items"]}
    pairs = [_pair(text) for text in names] or [(name, name) for name in current if name in listed]
    for name, wanted in pairs:
        if name not in current or wanted not in listed:
            raise CommandFailed(
                f"{name}={wanted} names nothing",
                f"{name} is no model here" if name not in current else f"{wanted} is not in {file}",
                "write NAME=FILE'S NAME; `tallygate models list` shows the models",
                Exit.USAGE,
            )
    return [_plan(name, current[name], wanted, listed[wanted], day) for name, wanted in pairs]


def _pair(text: str) -> tuple[str, str]:
    name, _, wanted = text.partition("=")
    return name, wanted or name


def _plan(
    name: str, current: dict[str, Any], wanted: str, said: dict[str, Any], day: str | None
) -> _Planned:
    from deploy.price_files.changes import changed, rows_of, with_entry  # noqa: PLC0415
    from deploy.price_files.litellm import convert  # noqa: PLC0415

    try:
        found = convert(said)
        body = with_entry(written_fields(current), found.entry, day)
        changes = changed(rows_of(name, current), rows_of(name, body))
    except ValueError as error:
        raise CommandFailed(
            f"the price of {wanted} cannot be used",
            str(error),
            "leave the model out with --model, or give it a price with `tallygate config apply`",
            Exit.USAGE,
        ) from error
    return _Planned(name, current, body, changes, found.unused, found.rounded)


def _report(call: Call, planned: Sequence[_Planned], *, is_applied: bool) -> None:
    value = {"applied": is_applied, "models": [each.view() for each in planned]}
    text = "\n".join(each.text() for each in planned)
    call.output.result(value, text or "no model has a name of the file; name one with --model")

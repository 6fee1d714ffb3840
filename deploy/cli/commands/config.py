"""``tallygate config``: make the gateway as a file wants it, show what differs, show who has applied it.

Nothing is written unless everything is valid. Each write names the version it was decided against.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.cli.command import Call, Commands, add_command, add_group
from deploy.cli.output import CommandFailed, Exit, table
from schemas.printable import one_line

if TYPE_CHECKING:
    from deploy.desired_state.plan import Change, Current

_COLUMNS = ("instance", "role", "offset", "behind", "age_s", "live")


def register(commands: Commands) -> None:
    """Add the commands."""
    config = add_group(commands, "config", "desired state: a file of orgs, models, backends, ...")
    apply_parser = add_command(config, "apply", "make the gateway as a file wants it", apply)
    diff_parser = add_command(config, "diff", "show what `apply` would change", diff)
    for parser in (apply_parser, diff_parser):
        _add_file_options(parser)
    adopt_help = "accept a config log that ends below what was in force"
    add_command(config, "adopt", adopt_help, adopt)
    add_command(config, "status", "who has applied the configuration, and what was refused", status)


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--file", type=Path, required=True, help="a tallygate.yaml")
    prune = "also delete what the file leaves out, of the kinds that it mentions"
    parser.add_argument("--prune", action="store_true", help=prune)


@dataclass(frozen=True)
class _Planned:
    """Valid changes, and the state they were decided against."""

    changes: Sequence[Change]
    current: Current


def diff(call: Call) -> int:
    _report(call, _planned(call).changes, is_applied=False)
    return Exit.OK


def apply(call: Call) -> int:
    """Exit code 3 when some changes were made and a later one was refused."""
    planned, admin = _planned(call), call.admin()
    for done, change in enumerate(planned.changes):
        kind, name = change.entity.kind, change.entity.id
        current = planned.current[kind].get(name)
        try:
            if change.sign == "-":
                admin.delete_over(kind, name, current)
            else:
                admin.put_over(kind, name, current, change.entity.body)
        except CommandFailed as failure:
            call.output.tell(f"{done} of {len(planned.changes)} changes were made, then:")
            raise failure.with_code(Exit.PARTIAL if done else failure.code) from failure
    _report(call, planned.changes, is_applied=True)
    return Exit.OK


def status(call: Call) -> int:
    found: dict[str, Any] = call.admin().get("/status")
    newest = found["config"]["offset"]
    rows = [_row(instance, newest) for instance in found["instances"]]
    problems = [
        one_line(f"refused  {p['where']}: {p['what']}") for p in found["config"]["problems"]
    ]
    if found["config"].get("alarm"):
        problems.insert(0, one_line(f"alarm    {found['config']['alarm']}"))
    text = "\n".join([f"offset {newest}", table(_COLUMNS, rows), *problems])
    call.output.result({"instances": found["instances"], "config": found["config"]}, text)
    return Exit.OK


def adopt(call: Call) -> int:
    """Exit code 3 when this process has not followed in time."""
    answer = call.admin().post("/config/adopt")
    text = f"the config log is accepted although it ends below offset {answer['ended_below']}"
    call.output.result(answer, text)
    if answer["adopted"]:
        return Exit.OK
    call.output.tell("warning: not followed yet; see `tallygate config status`")
    return Exit.PARTIAL


def _planned(call: Call) -> _Planned:
    # Imported here, because `--help` should not wait for YAML and the rules of the admin API.
    from deploy.desired_state.document import bad_file, read_desired_state  # noqa: PLC0415
    from deploy.desired_state.plan import plan, problems_of  # noqa: PLC0415
    from deploy.embedded.problem import StackError  # noqa: PLC0415
    from deploy.embedded.seed import KINDS  # noqa: PLC0415

    options, admin = call.options, call.admin()
    try:
        desired = read_desired_state(options.file)
        current = {
            kind: {item["id"]: item for item in admin.get(f"/{kind}")["items"]} for kind in KINDS
        }
        changes = plan(desired, current, prune=options.prune)
        problems = problems_of(changes, current)
        if problems:
            raise bad_file(options.file, map(str, problems))
    except StackError as problem:
        raise CommandFailed(problem.what, problem.why, problem.fix) from problem
    return _Planned(changes, current)


def _report(call: Call, changes: Sequence[Change], *, is_applied: bool) -> None:
    value = {"applied": is_applied, "changes": [change.view() for change in changes]}
    call.output.result(value, "\n".join(c.text() for c in changes) or "nothing differs")


def _row(instance: Mapping[str, Any], newest: int) -> dict[str, Any]:
    return {
        "instance": instance["name"],
        "role": instance["role"],
        "offset": instance["offset"],
        "behind": max(0, newest - instance["offset"]),
        "age_s": round(instance["age_ms"] / 1_000, 1),
        "live": "yes" if instance["live"] else "no",
    }

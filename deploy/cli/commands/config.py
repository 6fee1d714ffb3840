"""``tallygate config``: make the gateway as a file wants it, show what differs, show who has applied it.

Nothing is written unless everything is valid. Each write names the version it was decided against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.command import Call, command, noun
from deploy.cli.output import CommandFailed, Exit, Output
from deploy.cli.overriding import overrides_table
from deploy.cli.table import table
from schemas.printable import one_line

if TYPE_CHECKING:
    from deploy.desired_state.plan import Change, Current

_COLUMNS = ("instance", "role", "offset", "behind", "age_s", "live")
_File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="a tallygate.yaml")]
_Prune = Annotated[
    bool,
    typer.Option(
        "--prune", help="also delete what the file leaves out, of the kinds that it mentions"
    ),
]

APP = noun("config", "The desired state: a file of orgs, models, backends.")


@dataclass(frozen=True)
class _Planned:
    """Valid changes, and the state they were decided against."""

    changes: Sequence[Change]
    current: Current


@command(
    APP,
    "apply",
    "tallygate config apply -f tallygate.yaml",
    "tallygate config apply -f tallygate.yaml --prune",
)
def apply(call: Call, *, file: _File, prune: _Prune = False) -> int:
    """Make the gateway as a file wants it.

    Exit code 3 when some changes were made and a later one was refused.
    """
    planned = _planned(call, file, prune=prune)
    with call.output.progress("writing changes", len(planned.changes)) as advance:
        _write(call, planned, advance)
    _report(call, planned.changes, is_applied=True)
    return Exit.OK


def _write(call: Call, planned: _Planned, advance: Callable[[], None]) -> None:
    admin = call.admin()
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
        advance()


@command(APP, "diff", "tallygate config diff -f tallygate.yaml")
def diff(call: Call, *, file: _File, prune: _Prune = False) -> int:
    """Show what `apply` would change."""
    _report(call, _planned(call, file, prune=prune).changes, is_applied=False)
    return Exit.OK


@command(APP, "status", "tallygate config status")
def status(call: Call) -> int:
    """Say who has applied the configuration, and what was refused.

    Overrides of routes and backends stand below.
    """
    found: dict[str, Any] = call.admin().get("/status")
    newest = found["config"]["offset"]
    rows = [_row(instance, newest) for instance in found["instances"]]
    problems = [
        one_line(f"refused  {p['where']}: {p['what']}") for p in found["config"]["problems"]
    ]
    if found["config"].get("alarm"):
        problems.insert(0, one_line(f"alarm    {found['config']['alarm']}"))
    overrides = found.get("overrides", [])
    value = {"instances": found["instances"], "config": found["config"], "overrides": overrides}
    listed = (overrides_table(overrides),) if overrides else ()
    call.output.result(value, f"offset {newest}", table(_COLUMNS, rows), *problems, *listed)
    return Exit.OK


@command(APP, "adopt", "tallygate config adopt")
def adopt(call: Call) -> int:
    """Accept a config log that ends below what was in force.

    Exit code 3 when the gateway has not followed in time.
    """
    answer = call.admin().post("/config/adopt")
    text = f"the config log is accepted although it ends below offset {answer['ended_below']}"
    call.output.result(answer, text)
    if answer["adopted"]:
        return Exit.OK
    call.output.tell("warning: not followed yet; see `tallygate config status`")
    return Exit.PARTIAL


@command(APP, "sign", "tallygate config sign")
def sign(call: Call) -> int:
    """Write again, signed, all that is in force.

    For a log that has entries from before they were signed, and after forged ones.
    """
    with call.output.progress("signing the configuration"):
        answer = call.admin().post("/config/sign")
    call.output.result(answer, f"{answer['signed']} entries are signed")
    return Exit.OK


@command(APP, "keys", "tallygate config keys", "tallygate config keys --json")
def keys(output: Output) -> int:
    """Make keys that sign the configuration, and print them.

    The private ones are for one process each; the public ones for all.
    """
    import secrets  # noqa: PLC0415 - help needs no keys

    from schemas.config_signing import KEY_BYTES, SignerName, read_signer  # noqa: PLC0415

    names: tuple[SignerName, ...] = ("admin", "accounting")
    private = {name: secrets.token_hex(KEY_BYTES) for name in names}
    public = ",".join(f"{name}={read_signer(name, private[name]).public}" for name in names)
    lines = [f"{name}: TALLYGATE_CONFIG_SIGNING_KEY={private[name]}" for name in names]
    told = f"every process: TALLYGATE_CONFIG_VERIFY_KEYS={public}"
    output.result({"signing_keys": private, "verify_keys": public}, *lines, told)
    return Exit.OK


def _planned(call: Call, file: Path, *, prune: bool) -> _Planned:
    # Imported here, because `--help` should not wait for YAML and the rules of the admin API.
    import msgspec  # noqa: PLC0415

    from deploy.desired_state.document import bad_file, read_desired_state  # noqa: PLC0415
    from deploy.desired_state.plan import plan, problems_of  # noqa: PLC0415
    from deploy.embedded.problem import StackError  # noqa: PLC0415
    from deploy.embedded.seed import KINDS  # noqa: PLC0415

    admin = call.admin()
    try:
        desired = read_desired_state(file)
        current = {
            kind: {item["id"]: item for item in admin.get(f"/{kind}")["items"]} for kind in KINDS
        }
        changes = plan(desired, current, prune=prune)
        problems = problems_of(changes, current, admin.get("/overrides")["items"])
        if problems:
            raise bad_file(file, map(str, problems))
    except msgspec.ValidationError as error:
        raise CommandFailed(
            "what the gateway has is not understood",
            str(error),
            "use the `tallygate` of the gateway's own version",
        ) from error
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

"""``tallygate certs``: certificates for the admin port of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.command import command, noun
from deploy.cli.options import host_name
from deploy.cli.output import CommandFailed, Output
from deploy.cli.table import table
from schemas.admin_roles import Role

APP = noun("certs", "Certificates of the admin port.")


@command(
    APP,
    "dev",
    "tallygate certs dev",
    "tallygate certs dev --state-dir ./state --host admin.internal --renew",
)
def dev(
    output: Output,
    *,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="that of `tallygate up`")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(parser=host_name, metavar="NAME", help="another name of the port; repeatable"),
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="make all anew; those of before open nothing any more")
    ] = False,
) -> int:
    """Make certificates for the admin port, and one for each role.

    For this machine: their authority's key is not kept. `tallygate up --mtls` uses them, and commands find them.
    """
    # Imported here, because only who makes certificates waits for what makes them.
    from deploy.embedded.admin_tls import (  # noqa: PLC0415
        admin_certificates,
        ensure_admin_certificates,
        identity,
    )
    from deploy.embedded.problem import StackError  # noqa: PLC0415
    from deploy.embedded.state import UserFolders  # noqa: PLC0415

    folder = (state_dir or UserFolders().state).absolute()
    try:
        was_made = ensure_admin_certificates(folder, host or (), anew=renew)
    except StackError as problem:
        raise CommandFailed(*problem.args) from problem
    made = admin_certificates(folder)
    clients = [
        {
            "role": role.value,
            "identity": identity(role),
            "certificate": str(made.files.certificate(role)),
            "key": str(made.files.key(role)),
        }
        for role in Role
    ]
    value = {"made": was_made, "settings": made.settings(), "clients": clients}
    output.result(
        value,
        table(("role", "identity", "certificate"), clients),
        "\n" + "\n".join(f"{name}={path}" for name, path in made.settings().items()),
    )
    output.tell("made" if was_made else "they were there already; --renew makes them anew")
    return 0

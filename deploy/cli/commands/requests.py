"""``tallygate requests show``: the whole story of one request, from its own records."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.options import Payload
from deploy.cli.output import Exit, shown
from deploy.cli.paths import entity_path

_TIMEOUT_S = 40.0

APP = noun("requests", "Single requests.")


@command(
    APP,
    "show",
    "tallygate requests show 0190a7c2-6f4e-7cc1-9a51-3f5d2a1b4c6d",
    "tallygate requests show 0190a7c2-6f4e-7cc1-9a51-3f5d2a1b4c6d --org acme --payload",
    "tallygate requests show 0190a7c2-6f4e-7cc1-9a51-3f5d2a1b4c6d --trace",
)
def show(
    call: Call,
    request_id: Annotated[
        str, typer.Argument(metavar="ID", help="from the x-request-id header of its answer")
    ],
    *,
    org: Annotated[
        str | None, typer.Option(metavar="ORG", help="its organization; makes the search shorter")
    ] = None,
    payload: Payload = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="draw where its time went, and tell the id of its trace")
    ] = False,
) -> int:
    """Tell what happened to one request, and why.

    ``--trace`` draws from the times in the log, so it needs no collector of traces.
    Exit code 3 when the search gave up before it had read all there may be.
    """
    from deploy.cli.timeline import timeline_text  # noqa: PLC0415 - help needs no events
    from deploy.cli.waterfall import waterfall_text  # noqa: PLC0415

    params = given(org=org, payload="true" if payload else None)
    path = entity_path("requests", request_id)
    with call.output.progress("searching the log"):
        found: dict[str, Any] = call.admin().get(path, params, timeout_s=_TIMEOUT_S)
    call.output.result(found, waterfall_text(found) if trace else timeline_text(found))
    if found["search"]["gave_up"]:
        call.output.tell(f"gave up by {shown(found['search']['gave_up'])}: there may be more")
        return Exit.PARTIAL
    return Exit.OK

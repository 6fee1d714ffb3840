"""``tallygate requests show``: the whole story of one request, from its own records."""

from __future__ import annotations

from typing import Any

from deploy.cli.command import Call, Commands, add_command, add_group, given
from deploy.cli.output import Exit
from deploy.cli.paths import entity_path
from deploy.cli.timeline import timeline_text

_TIMEOUT_S = 40.0


def register(commands: Commands) -> None:
    """Add the commands."""
    requests = add_group(commands, "requests", "single requests")
    parser = add_command(requests, "show", "what happened to one request, and why", show)
    parser.add_argument("id", help="from the x-request-id header of its answer")
    parser.add_argument("--org", help="its organization; makes the search shorter")
    parser.add_argument("--payload", action="store_true", help="show the texts, not their sizes")


def show(call: Call) -> int:
    """Exit code 3 when the search gave up before it had read all there may be."""
    options = call.options
    params = given(org=options.org, payload="true" if options.payload else None)
    path = entity_path("requests", options.id)
    found: dict[str, Any] = call.admin().get(path, params, timeout_s=_TIMEOUT_S)
    call.output.result(found, timeline_text(found))
    if found["search"]["gave_up"]:
        call.output.tell(f"gave up by {found['search']['gave_up']}: there may be more")
        return Exit.PARTIAL
    return Exit.OK

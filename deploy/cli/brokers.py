"""Which brokers a command asks: what the user says, else what the gateway itself uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.cli.output import CommandFailed, Exit

if TYPE_CHECKING:
    from deploy.cli.command import Call


def brokers_of(call: Call, brokers: str | None) -> str:
    """Their address: what the user says, else as whom the stack that runs here lets its owner in, else what the gateway
    itself uses. Raises ``CommandFailed`` for what is none."""
    from deploy.cli.address import Address, left_brokers  # noqa: PLC0415 - needs the folders' settings

    said = call.options
    left = left_brokers(Address(said.url, said.ca, said.cert, said.cert_key))
    found = brokers or left or str(call.admin().get("/status")["kafka_brokers"])
    from schemas.runtime.kafka.access import check_brokers  # noqa: PLC0415 - help waits for no library

    try:
        check_brokers(found)
    except ValueError as error:
        fix = "write host:port,host:port, or kafkas://user:password@host:port?ssl_ca_certs=FILE"
        raise CommandFailed("the brokers cannot be asked", str(error), fix, Exit.USAGE) from error
    return found

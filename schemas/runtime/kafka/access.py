"""What clients of Kafka are told, so that each of them is let in the same way: one address, one set of options."""

from __future__ import annotations

from typing import Any

from schemas.runtime.kafka.address import read_kafka_address
from schemas.runtime.process.client_tls import check_files, client_context

__all__ = ["check_brokers", "client_options"]


def client_options(brokers: str) -> dict[str, Any]:
    """The options of every client of aiokafka for the address in a setting.

    Raises ``ValueError`` for what is no address, ``OSError`` for files of TLS that are none.
    """
    address = read_kafka_address(brokers)
    options: dict[str, Any] = {
        "bootstrap_servers": list(map(str, address.servers)),
        "security_protocol": address.protocol,
    }
    if address.tls is not None:
        options["ssl_context"] = client_context(address.tls)
    if address.login is not None:
        options["sasl_mechanism"] = address.mechanism
        options["sasl_plain_username"] = address.login.user
        options["sasl_plain_password"] = address.login.password
    return options


def check_brokers(text: str) -> None:
    """Raises ``ValueError`` with a sentence for whoever wrote the setting: no address, or files that are none."""
    check_files(read_kafka_address(text).tls)

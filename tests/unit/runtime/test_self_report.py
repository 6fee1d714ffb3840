"""A process says of itself what others cannot know: who it is, what it was given, and that another has its name."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from deploy.embedded.tls import ensure_certificates
from ingress.admin.settings import AdminSettings
from ingress.settings import IngressSettings
from schemas.ledger.keys import CONFIG_APPLIED
from schemas.peppers import pepper_name
from schemas.reports import ProcessReport, process_field, read_config_report, read_process_report
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.self_report import SelfReport, ends_of, run_ids
from schemas.runtime.valkey.store import Store, StoreUnavailable

PEPPER = "p" * 32


class _Clock(Clock):
    def __init__(self, now_ms: int = 1_000) -> None:
        self.at_ms = now_ms

    def now_ms(self) -> int:
        return self.at_ms


class _Store:
    """A hash, and the one script that is sent: it gives back what stood there."""

    def __init__(self, run_id: bytes = b"r1") -> None:
        self.hash: dict[str, Any] = {}
        self.run_id = run_id
        self.written = asyncio.Event()

    async def call(self, *command: Any) -> Any:
        assert command[0] == "EVAL"
        assert command[2:4] == (1, CONFIG_APPLIED)
        was = self.hash.get(command[6])
        self.hash |= {command[4]: command[5], command[6]: command[7]}
        self.written.set()
        return was

    async def call_each(self, *command: Any) -> list[bytes]:
        assert command == ("INFO", "server")
        return [b"# Server\r\nrun_id:" + self.run_id + b"\r\ntcp_port:1\r\n"]


class _Away(_Store):
    async def call_each(self, *_: Any) -> list[bytes]:
        raise StoreUnavailable("away")


class _Feed:
    """A configuration that does not change."""

    class snapshot:  # noqa: N801 - as the feed calls it
        offset = 7

    async def wait_for(self, *_: Any) -> None:
        await asyncio.sleep(0.001)


def _settings(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {
        "kafka_brokers": "kafka://ingress:secret@h:9092",
        "ledger_url": "redis://h:6379/0",
        "bus_url": "redis://h:6380/0",
        "data_dir": tmp_path,
        "instance_id": "ingress-0",
        "key_pepper": PEPPER,
        **more,
    }


def _report(store: _Store, bus: _Store, clock: Clock, tmp_path: Path, **more: Any) -> SelfReport:
    return SelfReport(
        IngressSettings(**_settings(tmp_path, **more)),
        "ingress",
        cast("ConfigFeed", _Feed()),
        cast("Store", store),
        cast("Store", bus),
        clock,
        lambda: {"kafka": "ok", "bus": "away\nfor long", "x": "y" * 999},
    )


async def _told(report: SelfReport, store: _Store) -> ProcessReport:
    """What stands in the store after it reported at least once more."""
    store.written.clear()
    running = asyncio.create_task(report.run())
    await asyncio.wait_for(store.written.wait(), 5)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    found = read_process_report(store.hash[process_field("ingress-0")])
    assert found is not None
    return found


async def test_a_process_tells_what_it_was_given_and_no_secret(tmp_path: Path) -> None:
    """Its pepper by a name that says nothing about it; what is well is left out, what is not is one short line."""
    store, bus = _Store(b"ledger-run"), _Store(b"bus-run")
    told = await _told(_report(store, bus, _Clock(), tmp_path), store)

    assert told.peppers == {"TALLYGATE_KEY_PEPPER": pepper_name(PEPPER.encode())}
    assert told.kafka_user == "ingress"
    assert told.stores == {"ledger": ("ledger-run",), "bus": ("bus-run",)}
    assert told.trouble == {"bus": "away\\nfor long", "x": "y" * 200}
    assert told.disk_free_min_bytes == 1 << 30
    assert (told.twin_ms, told.at_ms) == (0, 1_000)
    assert PEPPER not in str(store.hash)
    assert "secret" not in str(store.hash)
    config = read_config_report(store.hash["ingress-0"])
    assert config == ("ingress", 7, 1_000)


async def test_a_report_goes_out_while_a_store_does_not_say_what_it_is(tmp_path: Path) -> None:
    """What is not known is left out, and the report is there all the same."""
    store = _Store()
    told = await _told(_report(store, _Away(), _Clock(), tmp_path), store)

    assert told.stores == {"ledger": ("r1",)}


async def test_two_processes_with_one_instance_id_find_each_other(tmp_path: Path) -> None:
    """Each sees that the other has reported since its own start."""
    store, clock = _Store(), _Clock()
    first, second = (_report(store, _Store(), clock, tmp_path) for _ in range(2))
    await _told(first, store)
    clock.at_ms = 2_000
    assert (await _told(second, store)).twin_ms == 0
    clock.at_ms = 3_000
    await _told(first, store)
    clock.at_ms = 4_000
    await _told(second, store)
    clock.at_ms = 5_000
    twins = [(await _told(each, store)).twin_ms for each in (first, second)]

    assert all(twins)


async def test_a_process_that_takes_anothers_place_is_no_twin(tmp_path: Path) -> None:
    """However often it reports: the last word of the one before is older than its own first."""
    store, clock = _Store(), _Clock()
    await _told(_report(store, _Store(), clock, tmp_path), store)
    clock.at_ms = 9_000
    after = _report(store, _Store(), clock, tmp_path)
    for now_ms in (9_000, 11_000, 13_000, 15_000):
        clock.at_ms = now_ms
        told = await _told(after, store)
        assert (told.at_ms, told.twin_ms) == (now_ms, 0)


async def test_the_ends_of_certificates_are_told_by_file(tmp_path: Path) -> None:
    """Those of a store, a broker and the admin port; what is none is left out."""
    made = ensure_certificates(tmp_path / "tls")
    own, authority = str(made.certificate("client")), str(made.authority)
    options = f"?ssl_ca_certs={authority}&ssl_certfile={own}&ssl_keyfile={made.key('client')}"
    store = _Store()
    url = f"rediss://h:6379/0{options}"
    told = await _told(_report(store, _Store(), _Clock(), tmp_path, ledger_url=url), store)

    assert told.certificates == ends_of([Path(own), Path(authority), tmp_path / "none.pem"])
    assert set(told.certificates) == {own, authority}
    assert min(told.certificates.values()) > 1_900_000_000


def test_a_control_plane_without_a_bus_tells_its_ledger_alone(tmp_path: Path) -> None:
    """It has none."""
    given = _settings(tmp_path)
    del given["bus_url"]
    report = SelfReport(
        AdminSettings(**given),
        "admin",
        cast("ConfigFeed", _Feed()),
        cast("Store", _Store()),
        None,
        _Clock(),
        dict,
    )
    asyncio.run(report._look())

    assert report._stores == {"ledger": ("r1",)}


@pytest.mark.parametrize(
    ("infos", "runs"),
    [([], ()), ([b"run_id:b\r\n", b"x\r\nrun_id:a\r\n", b"run_id:a"], ("a", "b")), ([None, 3], ())],
)
def test_run_ids_are_those_of_all_servers(infos: list[Any], runs: tuple[str, ...]) -> None:
    """Once each, in a steady order."""
    assert run_ids(infos) == runs


def test_what_is_no_report_is_none() -> None:
    """Of a later version the fields that are known are read."""
    assert read_process_report("ingress 3 5") is None
    assert read_process_report(b"") is None
    later = msgspec.json.encode({"run": "a", "at_ms": 1, "new": True})
    assert read_process_report(later) == ProcessReport(run="a", at_ms=1)

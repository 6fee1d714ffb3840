"""A write of the configuration answers once every ingress that lives has applied it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from ingress.admin.config import config_writer
from schemas.ledger.keys import CONFIG_APPLIED
from schemas.reports import ConfigReport
from schemas.runtime.valkey.store import StoreUnavailable
from tests.unit.admin import admin_api
from tests.unit.admin.admin_api import admin_app

_DELAY_S = 0.1


class _Ingress(admin_api.EmptyStore):
    """A store with the report of one ingress, which applies what is written after a while, or never."""

    applies_at_s: float | None = None
    is_away = False

    def call(self, *command: Any) -> asyncio.Future[Any]:
        if command[:2] != ("HGETALL", CONFIG_APPLIED):
            return super().call(*command)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.is_away:
            answer.set_exception(StoreUnavailable("away"))
            return answer
        has_it = self.applies_at_s is not None and time.monotonic() >= self.applies_at_s
        line = ConfigReport("ingress", 10 if has_it else -1, time.time_ns() // 1_000_000).line()
        answer.set_result([b"ingress-0", line.encode()])
        return answer


async def _put(monkeypatch: pytest.MonkeyPatch, store: _Ingress) -> tuple[int, float]:
    """The status of a write, and how long it took."""
    monkeypatch.setattr(admin_api, "EmptyStore", lambda: store)
    app, _ = admin_app(monkeypatch)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 5))
    began_s = time.monotonic()
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.put("/admin/v1/orgs/acme", json={})
    return answer.status_code, time.monotonic() - began_s


async def test_who_was_told_of_a_write_may_use_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a model that was just made would be none to the next request."""
    store = _Ingress()
    store.applies_at_s = time.monotonic() + _DELAY_S

    status, _ = await _put(monkeypatch, store)

    assert status == 200
    assert time.monotonic() >= store.applies_at_s


async def test_an_ingress_that_does_not_follow_delays_a_write_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was written is written."""
    monkeypatch.setattr(config_writer, "_APPLIED_DEADLINE_S", _DELAY_S)

    status, took_s = await _put(monkeypatch, _Ingress())

    assert status == 200
    assert took_s >= _DELAY_S * 0.9


async def test_reports_that_cannot_be_read_fail_no_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the log already."""
    store = _Ingress()
    store.is_away = True

    status, _ = await _put(monkeypatch, store)

    assert status == 200

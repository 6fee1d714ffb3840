"""Usage as a caller is told of it: its own, in whole buckets, within bounds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from ingress.apis.usage_pages import ROWS_MAX, View
from ingress.auth.caller import Caller
from ingress.endpoints import usage
from schemas.ledger.usage_cells import UsageCells
from schemas.usage import UsageRow, cell
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway

NOW_S = NOW_MS // 1_000
TODAY_S = NOW_S - NOW_S % 86_400
HOUR_S = 3_600
MINE = UsageRow("key_a", "-", "echo", "b1")
ROWS = {
    MINE: {"requests": 2, "attempts": 3, "input_tokens": 10, "cost_nano_usd": 1_500},
    UsageRow("key_a", "-", "echo", "b2"): {"requests": 1, "attempts": 1, "output_tokens": 5, "cost_nano_usd": 2_000},
    UsageRow("key_b", "ada", "wide", "b1"): {"requests": 1, "attempts": 1, "unpriced": 1},
}  # fmt: skip


def _cells(rows: dict[UsageRow, dict[str, int]]) -> dict[str, int]:
    return {cell(row.encoded(), name): n for row, said in rows.items() for name, n in said.items()}


def _gateway() -> Gateway:
    """One that has the same rows in this hour and the one of yesterday."""
    gateway = Gateway()
    for hour in ("2023-11-14T22", "2023-11-13T22"):
        gateway.ledger.usage_hours["acme", hour] = _cells(ROWS)
    return gateway


def _limited(gateway: Gateway, *scopes: str) -> None:
    keys = dict(gateway.config.snapshot.keys)
    keys["key_a"] = msgspec.structs.replace(keys["key_a"], scopes=scopes)
    gateway.config.snapshot = replace(gateway.config.snapshot, keys=keys)


async def _told(gateway: Gateway, query: str = "") -> Any:
    answer = await gateway.client.get(f"/v1/usage{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_week_by_days_is_told_where_nothing_is_asked() -> None:
    """Backends are added up, days without use are empty, and the last ends with the hour that is."""
    page = await _told(_gateway())

    assert (page["object"], page["has_more"], page["next_page"]) == ("page", False, None)
    assert [each["start_time"] for each in page["data"]] == [
        TODAY_S - 86_400 * n for n in range(6, -1, -1)
    ]
    assert page["data"][-1]["end_time"] == NOW_S - NOW_S % HOUR_S + HOUR_S
    assert [len(each["results"]) for each in page["data"]] == [0, 0, 0, 0, 0, 1, 1]
    (result,) = page["data"][-1]["results"]
    assert (
        result["requests"],
        result["attempts"],
        result["input_tokens"],
        result["output_tokens"],
    ) == (4, 5, 10, 5)
    assert (result["cost_usd"], result["unpriced"], result["model"]) == ("0.000003500", 1, None)


async def test_groups_are_told_by_what_is_asked() -> None:
    """In OpenAI's ways to say it; what has no price has no cost, and what has no user none."""
    for by in ("group_by=key_id,model,user", "group_by[]=user&group_by[]=model&group_by[]=key_id"):
        page = await _told(_gateway(), f"?bucket_width=1h&limit=1&start_time={NOW_S}&{by}")

        results = page["data"][0]["results"]
        assert [(each["key_id"], each["model"], each["user"], each["cost_usd"]) for each in results] == [
            ("key_a", "echo", None, "0.000003500"), ("key_b", "wide", "ada", None),
        ]  # fmt: skip
        assert "backend" not in results[0]


async def test_pages_go_on_where_the_last_one_ended() -> None:
    """Each hour once, whatever the width of a page."""
    gateway = _gateway()
    query, starts = f"?bucket_width=1h&limit=10&start_time={NOW_S - 47 * HOUR_S}", []
    page = await _told(gateway, query)
    while True:
        starts += [each["start_time"] for each in page["data"]]
        if not page["has_more"]:
            break
        page = await _told(gateway, f"{query}&page={page['next_page']}")

    first = NOW_S - 47 * HOUR_S
    assert starts == [first - first % HOUR_S + HOUR_S * n for n in range(48)]
    assert gateway.ledger.usage_calls == 48


@pytest.mark.parametrize(
    ("scopes", "requests"),
    [(("inference",), 3), (("usage:read",), 4), (("inference", "usage:read"), 4)],
)
async def test_a_key_of_limited_scopes_sees_its_own_unless_it_may_see_all(
    scopes: tuple[str, ...], requests: int
) -> None:
    """Whatever it groups by."""
    gateway = _gateway()
    _limited(gateway, *scopes)
    page = await _told(gateway, "?limit=1&group_by=key_id&start_time=" + str(TODAY_S))

    assert sum(each["requests"] for each in page["data"][0]["results"]) == requests


async def test_a_key_that_may_not_ask_models_nor_read_usage_is_told_nothing() -> None:
    """403; nobody is told anything without a key."""
    gateway = _gateway()
    _limited(gateway, "models:read")
    assert (await gateway.client.get("/v1/usage")).status_code == 403

    del gateway.client.headers["x-api-key"]
    assert (await gateway.client.get("/v1/usage")).status_code == 401


async def test_a_user_sees_its_own_and_no_key_of_its_name() -> None:
    """Of the rows of its provider those that are its own, though they share one key."""
    ada = Caller("oidc:login", "acme", None, "ada", None, owner="oidc:login/acme/ada")
    view = View.of(ada, "usage:read")

    assert view.shows(UsageRow("oidc:login", "ada", "echo", "b1"))
    assert not view.shows(UsageRow("oidc:login", "bob", "echo", "b1"))
    assert not view.shows(UsageRow("key_a", "ada", "echo", "b1"))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?bucket_width=1m", "bucket_width"), ("?limit=0", "limit"), ("?limit=32", "limit"),
        ("?bucket_width=1h&limit=169", "limit"), ("?limit=x", "limit"), ("?group_by=backend", "group_by"),
        (f"?start_time={NOW_S}&end_time={NOW_S}", "start_time"), ("?start_time=-1", "start_time"),
        (f"?start_time={NOW_S - 41 * 86_400}", "start_time"), ("?end_time=soon", "end_time"),
        ("?page=1", "page"), ("?page=99999999999999999999", "page"), ("?org=other", "org"),
        ("?start_time=9999999999999", "start_time"),
    ],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_refused_by_its_parameter(
    query: str, param: str
) -> None:
    """400, before anything is read."""
    gateway = _gateway()
    answer = await gateway.client.get(f"/v1/usage{query}")

    assert (answer.status_code, answer.json()["param"]) == (400, param)
    assert gateway.ledger.usage_calls == 0


async def test_a_large_hour_is_read_in_pieces_and_counted_once() -> None:
    """Also where the store tells a cell twice, as it does while a table grows."""
    gateway = _gateway()
    rows = {UsageRow(f"key_{n}", "-", "echo", "b1"): {"requests": 1} for n in range(1_000)}
    gateway.ledger.usage_hours["acme", "2023-11-14T22"] = _cells(rows)
    read = gateway.ledger.usage

    async def again(org: str, hour: str, cursor: int, count: int) -> UsageCells:
        found = await read(org, hour, max(0, cursor - 1), count + 1)
        return UsageCells(found.cursor, found.cells)

    gateway.ledger.usage = again  # type: ignore[method-assign]
    page = await _told(gateway, f"?bucket_width=1h&limit=1&start_time={NOW_S}")

    assert page["data"][0]["results"][0]["requests"] == 1_000
    assert gateway.ledger.usage_calls == 4


async def test_a_page_ends_before_it_has_too_many_results() -> None:
    """Where one bucket alone has too many it is refused by what it is grouped by."""
    gateway = _gateway()
    for hour, count in (
        ("2023-11-14T20", ROWS_MAX - 5),
        ("2023-11-14T21", 6),
        ("2023-11-14T22", ROWS_MAX + 1),
    ):
        rows = {UsageRow(f"key_{n}", "-", "echo", "b1"): {"requests": 1} for n in range(count)}
        gateway.ledger.usage_hours["acme", hour] = _cells(rows)
    query = f"?bucket_width=1h&group_by=key_id&start_time={NOW_S - 2 * HOUR_S}"
    first = await _told(gateway, query)
    second = await _told(gateway, f"{query}&page={first['next_page']}")
    third = await gateway.client.get(f"/v1/usage{query}&page={second['next_page']}")

    assert [len(each["results"]) for each in (*first["data"], *second["data"])] == [ROWS_MAX - 5, 6]
    assert (third.status_code, third.json()["param"]) == (400, "group_by")


async def test_what_cannot_be_told_now_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that is closed or behind, and a bucket that takes too long; whole buckets before it are told."""
    away = _gateway()
    away.ledger.is_away = True
    assert (await away.client.get("/v1/usage")).status_code == 503

    slow = _gateway()
    read = slow.ledger.usage

    async def stuck(org: str, hour: str, cursor: int, count: int) -> UsageCells:
        if hour == "2023-11-14T22":
            await asyncio.Event().wait()
        return await read(org, hour, cursor, count)

    slow.ledger.usage = stuck  # type: ignore[method-assign]
    route = next(
        each for each in slow.app.others.routes if getattr(each, "path", "") == "/v1/usage"
    )
    monkeypatch.setattr(route.endpoint.__self__, "within_s", 0.1)  # type: ignore[attr-defined]
    query = f"/v1/usage?bucket_width=1h&start_time={NOW_S - HOUR_S}"
    page = (await slow.client.get(query)).json()
    assert ([each["end_time"] for each in page["data"]], page["has_more"]) == (
        [NOW_S - NOW_S % HOUR_S],
        True,
    )
    assert (await slow.client.get(f"{query}&page={page['next_page']}")).status_code == 503


async def test_readings_of_a_loud_organization_leave_the_store_to_the_others() -> None:
    """One at a time for each organization, few wait, more are refused at once."""
    gateway, over = _gateway(), asyncio.Event()
    under_way: list[str] = []

    async def slow(org: str, hour: str, cursor: int, count: int) -> UsageCells:
        under_way.append(org)
        await over.wait()
        return UsageCells(0, {})

    gateway.ledger.usage = slow  # type: ignore[method-assign]
    query = f"/v1/usage?bucket_width=1h&start_time={NOW_S}"
    loud = [asyncio.create_task(gateway.client.get(query)) for _ in range(30)]
    await asyncio.sleep(0.05)
    assert under_way == ["acme"]
    over.set()
    answers = await asyncio.gather(*loud)

    assert sorted({answer.status_code for answer in answers}) == [200, 429]
    assert sum(answer.status_code == 429 for answer in answers) == 30 - 1 - usage._WAITING_MAX

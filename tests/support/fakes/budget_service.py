"""A budget service of nobody of ours: a process with a ledger of its own in SQLite, which outlives its kill.

It keeps the published contract and shares no code with the gateway. `PUT /test/mode` makes it slow, silent or odd.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import web

_TABLES = """
create table if not exists budgets (org text, key text, usd text, valid_for_ms int, primary key (org, key));
create table if not exists spend (id text primary key, org text, key text, usd text, line text);
create table if not exists copies (id text);
create table if not exists checks (at real, org text, key text, question text, answer text);
create table if not exists denied (org text primary key, answer text);
"""


class Service:
    """What it keeps, and how it behaves now."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = sqlite3.connect(ledger, isolation_level=None)
        self.ledger.execute("pragma journal_mode=wal")
        self.ledger.execute("pragma synchronous=off")
        self.ledger.executescript(_TABLES)
        self.mode: dict[str, Any] = {}

    async def check(self, request: web.Request) -> web.StreamResponse:
        """Answer one question."""
        question = await request.json()
        org, key = question["org"], question["key"]
        odd = await self._behave(org)
        if odd is not None:
            return odd
        answer = self._answer(org, key)
        row = (time.time(), org, key, json.dumps(question), json.dumps(answer))
        self.ledger.execute("insert into checks values (?, ?, ?, ?, ?)", row)
        return web.json_response(answer)

    async def spend(self, request: web.Request) -> web.StreamResponse:
        """Count lines, each id once."""
        lines = (await request.json())["lines"]
        odd = await self._behave(lines[0]["org"])
        if odd is not None:
            return odd
        if any(line["id"] in self.mode.get("refuses", ()) for line in lines):
            return web.Response(status=422)
        self.ledger.execute("begin")
        for line in lines:
            row = (line["id"], line["org"], line["key"], line["spent_usd"], json.dumps(line))
            done = self.ledger.execute("insert or ignore into spend values (?, ?, ?, ?, ?)", row)
            if done.rowcount == 0:
                self.ledger.execute("insert into copies values (?)", (line["id"],))
        self.ledger.execute("commit")
        return web.Response(status=204)

    async def set_budget(self, request: web.Request) -> web.Response:
        """A budget of an organization, or of one of its keys."""
        told = await request.json()
        row = (told["org"], told.get("key", ""), told["usd"], told.get("valid_for_ms", 1_000))
        self.ledger.execute("insert or replace into budgets values (?, ?, ?, ?)", row)
        return web.Response(status=204)

    async def set_denied(self, request: web.Request) -> web.Response:
        """An answer that an organization gets from now on, whatever its budget."""
        told = await request.json()
        row = (told["org"], json.dumps(told["answer"]))
        self.ledger.execute("insert or replace into denied values (?, ?)", row)
        return web.Response(status=204)

    async def set_mode(self, request: web.Request) -> web.Response:
        """How it behaves from now on, towards everybody or one organization."""
        self.mode = await request.json()
        return web.Response(status=204)

    async def _behave(self, org: str) -> web.StreamResponse | None:
        mode = self.mode
        if mode.get("org", org) != org:
            return None
        await asyncio.sleep(mode.get("delay_s", 0))
        if "body" in mode:
            headers = {"location": mode["location"]} if "location" in mode else {}
            body = mode["body"].encode("latin-1")
            return web.Response(body=body, status=mode.get("status", 200), headers=headers)
        return None

    def _answer(self, org: str, key: str) -> dict[str, Any]:
        rows = self.ledger.execute("select answer from denied where org = ?", (org,)).fetchall()
        if rows:
            found: dict[str, Any] = json.loads(rows[0][0])
            return found
        budget = self.ledger.execute(
            "select usd, valid_for_ms, key from budgets where org = ? and key in (?, '') order by key desc",
            (org, key),
        ).fetchone()
        if budget is None:
            return {"decision": "allow", "valid_for_ms": 1_000}
        usd, valid_for_ms, whose = budget
        lines = self.ledger.execute(
            "select usd from spend where org = ? and (? = '' or key = ?)", (org, whose, whose)
        )
        limit, spent = Decimal(usd), sum((Decimal(one) for (one,) in lines), Decimal(0))
        answer = {
            "decision": "allow" if spent < limit else "deny",
            "limit_type": "budget",
            "current_usage": f"{spent:f}",
            "limit": f"{limit:f}",
            "retry_after": None,
            "valid_for_ms": valid_for_ms,
        }
        return answer | ({"remaining_usd": f"{limit - spent:f}"} if spent < limit else {})


async def serve(port: int, ledger: Path) -> None:
    """Serve for ever; the first line of standard output is the address."""
    service, app = Service(ledger), web.Application()
    app.add_routes(
        [
            web.post("/v1/check", service.check),
            web.post("/v1/spend", service.spend),
            web.put("/test/budget", service.set_budget),
            web.put("/test/denied", service.set_denied),
            web.put("/test/mode", service.set_mode),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ledger", type=Path, required=True)
    options = parser.parse_args()
    sys.exit(asyncio.run(serve(options.port, options.ledger)))

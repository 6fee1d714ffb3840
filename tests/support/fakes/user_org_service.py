"""A user-org service as a company would write it: callers in a file, which is read at each question.

Run as a module with `--callers FILE --log FILE [--port N]`: prints its address, then answers until it is ended. The
file is `{"credentials": {secret: caller}, "subjects": {issuer: {subject: caller}}, "delay_s": seconds}`. Every question
is a line of the log.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

TOKEN = "what-the-service-knows-the-gateway-by"


class UserOrgService:
    """Answers `GET /v1/caller`."""

    def __init__(self, callers: Path, log: Path) -> None:
        self._callers = callers
        self._log = log.open("a", buffering=1)

    async def caller(self, request: web.Request) -> web.Response:
        """Whose a caller is."""
        known = json.loads(self._callers.read_text())
        credential = request.headers.get("x-caller-credential")
        issuer = request.headers.get("x-caller-issuer", "")
        subject = unquote(request.headers.get("x-caller-subject", ""))
        asked = credential or f"{issuer} {subject}"
        etag = request.headers.get("if-none-match")
        self._log.write(json.dumps({"asked": asked, "etag": etag}) + "\n")
        await asyncio.sleep(known.get("delay_s", 0))
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        found: dict[str, Any] | None = (
            known.get("subjects", {}).get(issuer, {}).get(subject)
            if credential is None
            else known.get("credentials", {}).get(credential)
        )
        if found is None:
            return web.Response(status=404)
        body = json.dumps(found).encode()
        own = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if etag == own:
            return web.Response(status=304, headers={"etag": own})
        return web.Response(body=body, content_type="application/json", headers={"etag": own})


async def _serve(options: argparse.Namespace) -> None:
    app = web.Application()
    app.router.add_get("/v1/caller", UserOrgService(options.callers, options.log).caller)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port).start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--callers", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()

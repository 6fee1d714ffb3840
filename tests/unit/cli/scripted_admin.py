"""A scripted admin API, and commands that are run against it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import httpx

from deploy.cli import main
from deploy.cli.output import Output

URL = "http://127.0.0.1:1"
_PREFIX = "/admin/v1"


class Gateway:
    """An admin API with fixed answers, by method and path; it keeps what it was asked."""

    def __init__(self, answers: Mapping[str, Any], status: int = 200) -> None:
        self.answers = answers
        self.status = status
        self.requests: list[httpx.Request] = []

    def respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        for path in (_path(request), request.url.path.removeprefix(_PREFIX)):
            if f"{request.method} {path}" in self.answers:
                answer = json.dumps(self.answers[f"{request.method} {path}"])
                return httpx.Response(self.status, text=answer)
        problem = {"title": "Not found", "detail": _path(request), "code": "not_found"}
        return httpx.Response(404, json=problem)

    @property
    def asked(self) -> list[dict[str, Any]]:
        """What it was asked, as plain values."""
        return [
            {
                "method": request.method,
                "path": _path(request),
                "query": dict(request.url.params),
                "body": json.loads(request.content or b"null"),
                "if-match": request.headers.get("if-match"),
                "timeout_s": request.extensions["timeout"]["read"],
            }
            for request in self.requests
        ]

    def sent(self) -> Any:
        """The body of the last request."""
        return json.loads(self.requests[-1].content)


def run(gateway: Gateway, *arguments: str) -> tuple[int, str, str]:
    """A command's exit code, stdout and stderr."""
    data, story = io.StringIO(), io.StringIO()
    code = run_to(gateway, Output(data, story, as_json=False), *arguments)
    return code, data.getvalue(), story.getvalue()


def local(*arguments: str) -> tuple[int, str, str]:
    """The same of a command that asks no gateway."""
    data, story = io.StringIO(), io.StringIO()
    code = main.run(arguments, Output(data, story, as_json=False))
    return int(code), data.getvalue(), story.getvalue()


def run_to(gateway: Gateway, output: Output, *arguments: str) -> int:
    """A command's exit code; what it prints goes to the output."""
    transport = httpx.MockTransport(gateway.respond)
    return int(main.run([*arguments, "--url", URL], output, transport))


def _path(request: httpx.Request) -> str:
    return request.url.raw_path.decode().partition("?")[0].removeprefix(_PREFIX)

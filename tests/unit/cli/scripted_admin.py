"""A scripted admin API, and commands that are run against it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from deploy.cli.client import AdminClient
from deploy.cli.command import Call
from deploy.cli.main import create_parser
from deploy.cli.output import CommandFailed, Output

LETTER = {
    "id": "inference.requests.v1.dlq-2@14",
    "at_ms": 1_700_000_000_000,
    "key": "acme",
    "request_id": None,
    "stage": "decode",
    "error": "MalformedRecord",
    "message": "not published",
    "attempts": 0,
    "bytes": 1,
}


class Gateway:
    """An admin API with fixed answers, by method and path; it keeps what it was asked."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []

    def respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        asked = f"{request.method} {request.url.path.removeprefix('/admin/v1')}"
        if asked in self.answers:
            return httpx.Response(200, json=self.answers[asked])
        problem = {"title": "Not found", "detail": asked, "code": "not_found"}
        return httpx.Response(404, json=problem)


@dataclass(frozen=True)
class CallOf(Call):
    """A call whose admin API is a gateway in this process."""

    gateway: Gateway

    def admin(self) -> AdminClient:
        transport = httpx.MockTransport(self.gateway.respond)
        return AdminClient("http://127.0.0.1:1/admin/v1", transport)


def run(gateway: Gateway, *arguments: str) -> tuple[int, str, str]:
    """A command's exit code, stdout and stderr."""
    options = create_parser().parse_args(arguments)
    data, story = io.StringIO(), io.StringIO()
    call = CallOf(options, Output(data, story, options.json), gateway)
    try:
        code = int(options.run(call))
    except CommandFailed as failure:
        call.output.tell(failure.text)
        code = failure.code
    return code, data.getvalue(), story.getvalue()

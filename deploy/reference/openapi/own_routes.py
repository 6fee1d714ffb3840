"""The routes that tell callers of what they did: their requests, and their usage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.reference.openapi.common_errors import CALLER
from deploy.reference.openapi.contract import Answer, RouteContract, in_path, query
from ingress.apis.native.usage import DIMENSIONS, UsagePage
from ingress.http import paths
from ingress.requests.request_document import RequestEvents, RequestShown
from schemas.errors import ErrorCode


def own_routes() -> Iterator[RouteContract]:
    """All of them."""
    yield from _requests()
    yield _usage()


def _requests() -> Iterator[RouteContract]:
    request_id = in_path("request_id", "The id of a request, as `x-request-id` told it.")
    payload = query(
        "payload",
        "Whether to show what was sent and answered, to the key that sent it.",
        type="boolean",
        default=False,
    )
    errors = CALLER | {ErrorCode.NOT_FOUND, ErrorCode.RATE_LIMIT_EXCEEDED}
    shown = {200: Answer("What became of it.", RequestShown)}
    summary = "One of the caller's own requests: its state, times, usage, cost and attempts. Remembered for 72 hours."
    yield RouteContract(
        "requests.show", "native", "GET", paths.request_path("{request_id}"), summary, shown, errors, (request_id, payload)
    )  # fmt: skip
    told = {200: Answer("Its records in the order of time.", RequestEvents)}
    summary = "The records of one of the caller's own requests."
    yield RouteContract(
        "requests.events", "native", "GET", paths.events_path("{request_id}"), summary, told, errors, (request_id,)
    )  # fmt: skip


def _usage() -> RouteContract:
    seconds: dict[str, Any] = {"type": "integer", "minimum": 0}
    parameters = (
        query("start_time", "Unix seconds, inclusive, on the hour before; within 40 days.", **seconds),
        query("end_time", "Unix seconds, exclusive, on the hour after; now where it is left out.", **seconds),
        query("bucket_width", "An hour, or a day in UTC.", type="string", enum=["1h", "1d"], default="1d"),
        query("group_by", f"Of {', '.join(DIMENSIONS)}; several with commas, or repeated as `group_by[]`."),
        query("limit", "Buckets of a page: 24 of 168 at most by hour, 7 of 31 at most by day.", type="integer", minimum=1, maximum=168),
        query("page", "The `next_page` of the page before."),
    )  # fmt: skip
    return RouteContract(
        name="usage.show",
        surface="native",
        method="GET",
        path=paths.USAGE,
        summary="What the caller used, by hour or day: tokens, requests, cost.",
        answers={200: Answer("A page of buckets, the oldest first.", UsagePage)},
        errors=CALLER | {ErrorCode.RATE_LIMIT_EXCEEDED},
        parameters=parameters,
    )

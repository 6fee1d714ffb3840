"""The routes that tell callers of what they did: their requests, and their usage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.reference.openapi.common_errors import CALLER
from deploy.reference.openapi.contract import Answer, Parameter, RouteContract, in_path, query
from ingress.apis.native import usage as native
from ingress.apis.openai import usage as openai
from ingress.apis.usage_pages import UsageForm
from ingress.http import paths
from ingress.requests.request_document import RequestEvents, RequestShown
from schemas.errors import ErrorCode


def own_routes() -> Iterator[RouteContract]:
    """All of them."""
    yield from _requests()
    yield from _usage()
    yield from _organization()


def _requests() -> Iterator[RouteContract]:
    request_id = in_path("request_id", "The id of a request, as `x-request-id` told it.")
    payload = query(
        "payload",
        "Whether to show what was sent and answered, to the key that sent it.",
        type="boolean",
        default=False,
    )
    errors = CALLER | {ErrorCode.NOT_FOUND}
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


def _usage() -> Iterator[RouteContract]:
    yield RouteContract(
        name="usage.show",
        surface="native",
        method="GET",
        path=paths.USAGE,
        summary="What the caller used, by hour or day: tokens, requests, cost.",
        answers={200: Answer("A page of buckets, the oldest first.", native.UsagePage)},
        errors=CALLER,
        parameters=_parameters(native.FORM),
    )


def _organization() -> Iterator[RouteContract]:
    errors = CALLER
    of_usage: Any = {200: Answer("A page of buckets, the oldest first.", openai.CompletionsUsagePage)}  # fmt: skip
    summary = "What the caller used as OpenAI's usage API has it: calls of all operations, by hour or day."
    yield RouteContract(
        "organization.usage.completions", "openai", "GET", paths.COMPLETIONS_USAGE, summary, of_usage, errors,
        _parameters(openai.COMPLETIONS),
    )  # fmt: skip
    of_costs: Any = {200: Answer("A page of buckets, the oldest first.", openai.CostsPage)}
    summary = "What that cost as OpenAI's costs API has it, by day."
    yield RouteContract(
        "organization.costs", "openai", "GET", paths.COSTS, summary, of_costs, errors, _parameters(openai.COSTS)
    )  # fmt: skip
    name = in_path("name", "What OpenAI tells apart, such as `embeddings`.")
    summary = "Usage that is not kept apart here: always 404, which says where it is."
    yield RouteContract(
        "organization.usage.unkept", "openai", "GET", f"{paths.ORGANIZATION_USAGE}/{{name}}", summary, {},
        CALLER | {ErrorCode.NOT_FOUND}, (name,),
    )  # fmt: skip


def _parameters(form: UsageForm) -> tuple[Parameter, ...]:
    seconds: dict[str, Any] = {"type": "integer", "minimum": 0}
    most = max(width.most for width in form.widths.values())
    pages = ", ".join(
        f"{width.default} of {width.most} at most by {name}" for name, width in form.widths.items()
    )
    several: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    return (
        query("start_time", "Unix seconds, inclusive, on the hour before; within 40 days.", **seconds),
        query("end_time", "Unix seconds, exclusive, on the hour after; now where it is left out.", **seconds),
        query("bucket_width", "Hours, or days in UTC.", type="string", enum=[*form.widths], default="1d"),
        query("group_by", f"Of {', '.join(form.dimensions)}; several with commas, or repeated as `group_by[]`."),
        *(query(name, f"Only of these; repeated, also as `{name}[]`.", **several) for name in form.filters),
        query("limit", f"Buckets of a page: {pages}.", type="integer", minimum=1, maximum=most),
        query("page", "The `next_page` of the page before."),
    )  # fmt: skip

"""What an organization is told of, and under which id."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest

from schemas.events import AuditRecorded, RequestFinished
from schemas.job_facts import JobFacts
from schemas.operations import RESPONSES
from schemas.responses import response_id
from schemas.webhook_messages import job_message, kind_of, new_message, threshold_message
from schemas.webhooks import EVENT_KINDS, Webhooks
from tests.support.event_samples import SAMPLES

_OWN = Webhooks(url="https://a.example/hook")
_ONLY_NAMED = Webhooks(allowed=("https://a.example/jobs",))
_REACHED = AuditRecorded(
    audit_id="threshold:acme|b:org/nano_usd:2026-11:250:80",
    org="acme",
    action="threshold",
    actor="accounting",
    at_ms=1_700_000_000_000,
    detail='{"limit_id":"org:budget:month","percent":80,"limit":250,"usage":201}',
)


def _ended(**changed: object) -> RequestFinished:
    sample = cast("RequestFinished", SAMPLES["RequestFinished"])
    job = JobFacts("echo", sample.deadline_ms).encoded()
    told: dict[str, Any] = {"job": job, "status": "completed", "error_code": None}
    told |= {"response_status": None} | changed
    return msgspec.structs.replace(sample, **told)


def test_the_end_of_a_job_is_told_without_what_was_asked_and_answered() -> None:
    """Only what happened, what it cost, and the id to read the rest by."""
    message = job_message(_ended(), _OWN)

    assert message is not None
    told = json.loads(message.body)
    assert (message.type, told["type"], message.url) == ("job.completed", "job.completed", None)
    assert told["timestamp"].endswith("Z")
    assert told["data"]["id"] == _ended().request_id
    assert set(told["data"]["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert "result" not in told["data"]


@pytest.mark.parametrize(
    ("status", "happened"),
    [
        ("completed", "job.completed"),
        ("failed", "job.failed"),
        ("refused", "job.failed"),
        ("cancelled", "job.cancelled"),
        ("expired", "job.expired"),
    ],
)
def test_every_end_has_a_type(status: str, happened: str) -> None:
    """As the job itself tells it."""
    message = job_message(_ended(status=status), _OWN)

    assert message is not None
    assert message.type == happened


@pytest.mark.parametrize(
    ("status", "response_status", "happened"),
    [
        ("completed", "completed", "response.completed"),
        ("completed", None, "response.completed"),
        ("completed", "incomplete", "response.incomplete"),
        ("completed", "failed", "response.failed"),
        ("failed", None, "response.failed"),
        ("refused", None, "response.failed"),
        ("expired", None, "response.failed"),
        ("cancelled", None, "response.cancelled"),
    ],
)
def test_a_response_ends_under_the_names_of_openai(
    status: str, response_status: str | None, happened: str
) -> None:
    """With its own id, and that of the job as which it is listed; ``None`` is what older dispatchers say."""
    ended = _ended(status=status, response_status=response_status, route=RESPONSES.name)

    message = job_message(ended, _OWN)

    assert message is not None
    assert message.type == happened
    data = json.loads(message.body)["data"]
    assert (data["id"], data["job_id"]) == (response_id(ended.request_id), ended.request_id)
    assert (data["object"], data["status"]) == ("response", happened.removeprefix("response."))
    assert set(data["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}


@pytest.mark.parametrize("route", ["jobs", RESPONSES.name])
def test_an_answer_that_is_lost_is_told_as_it_is_read(route: str) -> None:
    """Whoever fetches it hears that it failed."""
    message = job_message(_ended(result=None, result_ref=None, route=route), _OWN)

    assert message is not None
    data = json.loads(message.body)["data"]
    assert (data["status"], data["error"]["code"]) == ("failed", "result_lost")


def test_an_answer_that_makes_no_response_is_the_backends_error() -> None:
    """As whoever reads the response is told."""
    message = job_message(_ended(response_status="failed", route=RESPONSES.name), _OWN)

    assert message is not None
    error = json.loads(message.body)["data"]["error"]
    assert (error["code"], error["status"]) == ("upstream_error", 502)


def test_who_wants_to_hear_of_responses_only_hears_of_no_jobs() -> None:
    """And the other way round."""
    only = {kind: Webhooks(url="https://a.example/", events=(kind,)) for kind in EVENT_KINDS}

    assert job_message(_ended(route=RESPONSES.name), only["response"]) is not None
    assert job_message(_ended(route=RESPONSES.name), only["job"]) is None
    assert job_message(_ended(route="jobs"), only["job"]) is not None
    assert job_message(_ended(route="jobs"), only["response"]) is None


def test_the_same_end_read_again_makes_the_same_message() -> None:
    """Byte for byte, so that its receiver knows it by its id."""
    again = job_message(_ended(), _OWN)

    assert again == job_message(_ended(), _OWN)
    assert again is not None
    assert again.message_id.startswith("msg_")
    assert "." not in again.message_id


def test_other_ends_and_other_organizations_have_other_ids() -> None:
    """An id is of what happened, to which request, of whom."""
    ids = {
        new_message(org, happened, subject, 1, {}).message_id
        for org in ("acme", "other")
        for happened in ("job.completed", "job.failed")
        for subject in ("r1", "r2")
    }

    assert len(ids) == 8


def test_a_request_that_is_no_job_is_told_nobody() -> None:
    """Its client has its answer."""
    assert job_message(_ended(job=None), _OWN) is None


def test_a_job_that_names_an_address_is_told_there() -> None:
    """Instead of where its organization is."""
    url = "https://a.example/jobs/7"
    message = job_message(_ended(job=JobFacts("echo", 1, None, url).encoded()), _ONLY_NAMED)

    assert message is not None
    assert message.url == url
    assert job_message(_ended(), _ONLY_NAMED) is None


def test_a_threshold_is_told_with_the_facts_of_its_event() -> None:
    """Once for each limit, period and percentage, as its audit event is."""
    message = threshold_message(_REACHED, _OWN)

    assert message is not None
    assert message.type == "threshold.reached"
    assert json.loads(message.body)["data"] == {
        "object": "threshold",
        "org": "acme",
        **json.loads(_REACHED.detail),
    }


@pytest.mark.parametrize(
    ("event", "webhooks"),
    [
        (msgspec.structs.replace(_REACHED, action="refused"), _OWN),
        (msgspec.structs.replace(_REACHED, detail="nonsense"), _OWN),
        (_REACHED, _ONLY_NAMED),
        (_REACHED, Webhooks(url="https://a.example/", events=("job",))),
    ],
    ids=["another event", "no facts", "no address", "not wanted"],
)
def test_other_audit_events_are_told_nobody(event: AuditRecorded, webhooks: Webhooks) -> None:
    """Nor what nobody wants to hear of."""
    assert threshold_message(event, webhooks) is None


def test_a_type_has_a_kind() -> None:
    """Which is what an organization chooses by."""
    assert kind_of("job.completed") == "job"
    assert kind_of("nonsense.happened") is None

"""What an organization is told of, and under which id."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest

from schemas.events import AuditRecorded, RequestFinished
from schemas.job_facts import JobFacts
from schemas.webhook_messages import job_message, kind_of, new_message, threshold_message
from schemas.webhooks import Webhooks
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
    told: dict[str, Any] = {"job": job, "status": "completed", "error_code": None} | changed
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

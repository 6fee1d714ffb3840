"""Which records of the log make a message."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from dispatcher.webhooks.fold import OLD_MS, message_of, told_organizations
from schemas.codec import encode
from schemas.config_state import Snapshot
from schemas.entities import Organization
from schemas.events import AuditRecorded, RequestFinished
from schemas.job_facts import JobFacts
from schemas.topics import AUDIT, OUTCOMES
from schemas.webhooks import Webhooks
from tests.support.event_samples import SAMPLES

_OWN: Final = Webhooks(url="https://a.example/hook")
_SAMPLE: Final = cast("RequestFinished", SAMPLES["RequestFinished"])
_JOB: Final = msgspec.structs.replace(_SAMPLE, job=JobFacts("echo", 1).encoded())
_AT_MS: Final = _JOB.finished_at_ms
_REACHED: Final = AuditRecorded(
    audit_id="threshold:acme|b:org/nano_usd:2026-11:250:80",
    org="acme",
    action="threshold",
    actor="accounting",
    at_ms=_AT_MS,
    detail="{}",
)


def _made(topic: str, event: Any, now_ms: int = _AT_MS) -> str | None:
    message = message_of(topic, encode(event), _OWN, now_ms)
    return None if message is None else message.type


def test_only_organizations_with_webhooks_are_told() -> None:
    """By the key of their records, so that nothing else of the others is read."""
    organizations = {"acme": Organization(webhooks=_OWN), "other": Organization()}

    assert told_organizations(Snapshot(organizations=organizations)) == {b"acme": _OWN}


def test_ends_of_jobs_and_thresholds_make_messages() -> None:
    """Whoever wrote them."""
    assert _made(OUTCOMES, _JOB) == "job.failed"
    assert _made(AUDIT, _REACHED) == "threshold.reached"


def test_everything_else_makes_none() -> None:
    """Requests that are no jobs, corrections, other audit events, and what no reader can decode."""
    assert _made(OUTCOMES, msgspec.structs.replace(_SAMPLE, job=None)) is None
    assert _made(OUTCOMES, SAMPLES["AttemptAdjusted"]) is None
    assert _made(AUDIT, SAMPLES["AuditRecorded"]) is None
    assert message_of(OUTCOMES, b"nonsense", _OWN, _AT_MS) is None
    assert message_of(AUDIT, None, _OWN, _AT_MS) is None


def test_what_happened_a_day_ago_is_told_nobody_any_more() -> None:
    """So a group that reads from the beginning again tells a day and not the whole log."""
    assert _made(OUTCOMES, _JOB, _AT_MS + OLD_MS - 1) is not None
    assert _made(OUTCOMES, _JOB, _AT_MS + OLD_MS) is None

"""What the body of a job stands for."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.apis.native.jobs import JobRequest, read_job
from ingress.http.refusals import Refusal

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = {"model": "echo", "messages": MESSAGES}


@pytest.mark.parametrize(
    ("fields", "job"),
    [
        (CHAT, JobRequest(CHAT, 600_000)),
        ({**CHAT, "ttl_s": 1.5, "seed": 7}, JobRequest({**CHAT, "seed": 7}, 1_500)),
        ({"model": "echo", "payload": "hi"}, JobRequest(CHAT, 600_000)),
        ({"model": "echo", "payload": MESSAGES, "ttl_s": None}, JobRequest(CHAT, 600_000)),
        ({**CHAT, "payload": None}, JobRequest(CHAT, 600_000)),
        ({"model": "echo", "payload": "hi", "messages": None}, JobRequest(CHAT, 600_000)),
        ({**CHAT, "parameters": {"seed": 7}}, JobRequest({**CHAT, "seed": 7}, 600_000)),
        ({**CHAT, "stream": False}, JobRequest({**CHAT, "stream": False}, 600_000)),
    ],
)
def test_both_ways_to_write_a_job_become_a_chat_completion(
    fields: dict[str, Any], job: JobRequest
) -> None:
    """Without the fields that are the job's own."""
    assert read_job(fields) == job


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": -1}, "ttl_s"),
        ({"ttl_s": 600.1}, "ttl_s"),
        ({"ttl_s": True}, "ttl_s"),
        ({"ttl_s": "9"}, "ttl_s"),
        ({"payload": "hi"}, "payload"),
        ({"parameters": []}, "parameters"),
        ({"parameters": {"stream": True}}, "parameters.stream"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], param: str) -> None:
    """400."""
    refusal = read_job({**CHAT, **change})

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (400, param)


@pytest.mark.parametrize("payload", ["", [], 7])
def test_a_payload_must_say_something(payload: object) -> None:
    """A text, or messages."""
    refusal = read_job({"model": "echo", "payload": payload})

    assert isinstance(refusal, Refusal)
    assert refusal.param == "payload"

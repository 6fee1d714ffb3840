"""A request's timeline as text."""

from __future__ import annotations

from typing import Any

from deploy.cli.timeline import _consumption, amount_text, clock_text, timeline_text
from schemas.usage import COUNTED

START_MS = 1_700_000_001_123  # 22:13:21.123 UTC

ACCEPTED = {
    "org": "acme",
    "project": None,
    "key_id": "key_a",
    "user": "ada",
    "route": "chat.completions",
    "model": "echo",
    "stream": True,
    "input_tokens_bound": 61,
    "reach": None,
    "output_tokens_bound": 50,
    "deadline_ms": START_MS + 60_000,
    "config_offset": 7,
    "payload_bytes": 48,
}
ADMITTED = {
    "holds": [
        {"key": "b:org:total", "unit": "nano_usd", "amount": 105_500, "limit": 2_000_000_000},
        {"key": "b:org:day", "unit": "tokens", "amount": 111, "limit": None},
    ],
    "price": {"version": "echo@4"},
    "rate_status": [{"id": "org:rps", "limit": 100, "remaining": 99}],
    "config_offset": 7,
    "decided_on": "inference.requests.v1-2@991",
}
DENIED = {
    "status": "refused",
    "http_status": 402,
    "error_code": "BUDGET_EXCEEDED",
    "error_message": "Budget spent: org:budget:total",
    "denial": {
        "limit_id": "org:budget:total",
        "limit_type": "budget",
        "unit": "nano_usd",
        "current_usage": 1_999_000_000,
        "limit": 2_000_000_000,
        "retry_after_ms": None,
    },
    "said": None,
    "bookings": [],
    "result_bytes": 0,
}
ATTEMPT = {
    "attempt": 1,
    "backend": "b1",
    "status": "succeeded",
    "upstream_status": 200,
    "started_at_ms": START_MS + 9,
    "first_token_at_ms": START_MS + 20,
    "finished_at_ms": START_MS + 109,
    **dict.fromkeys(COUNTED, 0),
    "input_tokens": 12,
    "output_tokens": 34,
    "cached_tokens": 2,
    "service_tier": None,
    "told_input_tokens": None,
    "told_output_tokens": None,
    "estimated": True,
    "cost_nano_usd": 57_000,
}


def step(what: str, after_ms: int, facts: dict[str, Any], **more: Any) -> dict[str, Any]:
    place = "inference.requests.v1-2@991"
    fields = {"what": what, "at_ms": START_MS + after_ms, "place": place, "facts": facts}
    return {**fields, "note": None, **more}


def text(*steps: dict[str, Any], **more: Any) -> list[str]:
    timeline: dict[str, Any] = {
        "request_id": "r1",
        "org": "acme",
        "status": "completed",
        "http_status": 200,
        "error_code": None,
        "steps": list(steps),
        "search": {"records": 9},
    }
    return timeline_text({**timeline, **more}).splitlines()


def test_a_step_is_a_line_with_its_time_its_distance_and_its_place() -> None:
    """And what there is more of it stands below, aligned."""
    head, first, second, last = text(step("accepted", 0, ACCEPTED))

    place = "inference.requests.v1-2@991"
    left = f"22:13:21.123  +0 ms  accepted  {place}  "
    assert head == "r1  acme  completed 200  2023-11-14 UTC"
    assert first == f"{left}key key_a  user ada  bounds 61+50 tokens"
    assert second.startswith(" " * len(left) + "chat.completions stream  model echo  body 48 bytes")
    assert last == "9 records searched"


def test_what_a_request_can_reach_is_told() -> None:
    """It explains a hold above that of plain text."""
    reach = {
        "service_tier": "priority",
        "cache_writes": True,
        "tool_calls_bound": 0,
        "tool_kinds": ["web_search"],
    }
    lines = text(step("accepted", 0, ACCEPTED | {"reach": reach}))

    assert (
        lines[3].strip()
        == "reaches service_tier priority, cache_writes true, tool_kinds web_search"
    )


def test_an_admission_lists_what_it_holds_of_which_limit() -> None:
    """Money as USD, all else in its unit."""
    lines = "\n".join(text(step("admitted", 3, ADMITTED)))

    assert "price echo@4  config 7" in lines
    assert "holds 0.000105500 USD of b:org:total, limit 2.000000000 USD" in lines
    assert "holds 111 tokens of b:org:day, no limit" in lines
    assert "rate org:rps: 99 of 100 left" in lines


def test_a_refusal_names_the_limit_and_its_usage() -> None:
    """So that the number can be compared with a usage report."""
    lines = "\n".join(text(step("finished", 3, DENIED), status="refused", http_status=402))

    assert "refused  402  BUDGET_EXCEEDED" in lines
    assert "budget org:budget:total: used 1.999000000 USD of 2.000000000 USD" in lines


def test_an_error_tells_what_its_backend_named() -> None:
    """As its client was told."""
    said = {"code": "context_length_exceeded", "param": "messages", "type": None}
    lines = text(step("finished", 3, DENIED | {"denial": None, "said": said}))

    assert "the backend named code context_length_exceeded, param messages" in "\n".join(lines)


def test_an_attempt_tells_what_it_took_and_cost() -> None:
    """An estimate is called one."""
    (line,) = text(step("attempt", 9, ATTEMPT))[1:-1]

    assert line.endswith(
        "1 b1 succeeded  200  first token +11 ms  100 ms  "
        "12+34 tokens (2 cached)  0.000057000 USD  estimated"
    )


def test_an_attempt_names_every_kind_that_it_has_and_its_tier() -> None:
    """What has a price of its own explains the cost."""
    kinds = {"cache_write_1h_tokens": 4, "audio_output_tokens": 5, "tool_calls": 1}
    (line,) = text(step("attempt", 9, ATTEMPT | kinds | {"service_tier": "priority"}))[1:-1]

    told = "(2 cached, 4 cache write 1h, 5 audio out, 1 tool calls)  tier priority"
    assert f"12+34 tokens {told}" in line


def test_a_copy_is_marked() -> None:
    """It must not be read as a second outcome."""
    note = "copy 2, without effect"

    assert f"({note})  refused" in "\n".join(text(step("finished", 5, DENIED, note=note)))


def test_a_payload_is_shown_only_if_it_is_there() -> None:
    """The gateway sends it when asked."""
    lines = text(step("accepted", 0, {**ACCEPTED, "payload": "line 1\nline 2"}))

    assert [line.strip() for line in lines[3:5]] == ["line 1", "line 2"]


def test_times_and_amounts_are_exact() -> None:
    """Milliseconds and nano-USD."""
    assert clock_text(START_MS) == "22:13:21.123"
    assert amount_text("nano_usd", 1) == "0.000000001 USD"
    assert amount_text("requests", 3) == "3 requests"


def test_a_line_of_usage_is_told_without_what_only_attempts_say() -> None:
    """What a backend said and cannot be is a fact of the attempt; its line has none."""
    facts = dict.fromkeys(COUNTED, 0) | {
        "backend": "b1",
        "service_tier": None,
        "cost_nano_usd": None,
        "estimated": False,
    }
    found = _consumption(facts)

    assert "cannot be" not in found
    assert "cannot be" in _consumption(facts | {"told_input_tokens": 9, "told_output_tokens": 9})

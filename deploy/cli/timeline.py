"""A request's timeline as aligned lines: pure. Times are UTC, amounts are in the unit of their limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from deploy.cli.output import shown
from schemas.money import usd

Facts = Mapping[str, Any]

_KINDS: Final = {
    "cached_tokens": "cached",
    "cache_write_tokens": "cache write",
    "cache_write_1h_tokens": "cache write 1h",
    "reasoning_tokens": "reasoning",
    "audio_input_tokens": "audio in",
    "audio_output_tokens": "audio out",
    "image_input_tokens": "image in",
    "image_output_tokens": "image out",
    "tool_calls": "tool calls",
}
"""Counts of an attempt that are told where they are not zero."""


def timeline_text(timeline: Mapping[str, Any]) -> str:
    """What became of the request, then one line per step; a step's further lines stand below it."""
    steps = [shown(step) | {"facts": _shown_facts(step["facts"])} for step in timeline["steps"]]
    told = shown({name: value for name, value in timeline.items() if name != "steps"})
    start_ms = steps[0]["at_ms"]
    day = datetime.fromtimestamp(start_ms / 1_000, UTC).date()
    head = f"{told['request_id']}  {told['org']}  {_verdict(told)}  {day} UTC"
    offsets = [f"+{step['at_ms'] - start_ms} ms" for step in steps]
    width = max(map(len, offsets))
    place_width = max(len(step["place"]) for step in steps)
    lines = [head]
    for step, offset in zip(steps, offsets, strict=True):
        first, *rest = _described(step)
        left = f"{clock_text(step['at_ms'])}  {offset:<{width}}  {step['what']:<8}"
        left += f"  {step['place']:<{place_width}}  "
        lines += [left + first, *(" " * len(left) + line for line in rest)]
    search = timeline["search"]
    return "\n".join([*lines, f"{search['records']} records searched"])


def _shown_facts(facts: Facts) -> dict[str, Any]:
    """The facts as parts of lines; texts that were asked for keep their lines."""
    texts = {name: facts[name] for name in ("payload", "result") if name in facts}
    return dict(shown(dict(facts))) | texts


def clock_text(at_ms: int) -> str:
    """The time of day in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(at_ms / 1_000, UTC)
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1_000:03d}"


def amount_text(unit: str, amount: int) -> str:
    """An amount with its unit; money as USD."""
    return f"{usd(amount)} USD" if unit == "nano_usd" else f"{amount} {unit}"


def _verdict(timeline: Mapping[str, Any]) -> str:
    parts = (timeline["status"], timeline["http_status"], timeline["error_code"])
    return " ".join(str(part) for part in parts if part is not None)


def _described(step: Mapping[str, Any]) -> list[str]:
    lines = _DESCRIBED[step["what"]](step["facts"])
    note = step["note"]
    return lines if note is None else [f"({note})  {lines[0]}", *lines[1:]]


def _accepted(facts: Facts) -> list[str]:
    owners = [f"{name} {facts[name]}" for name in ("project", "user") if facts[name] is not None]
    who = "  ".join([f"key {facts['key_id']}", *owners])
    bounds = f"bounds {facts['input_tokens_bound']}+{facts['output_tokens_bound']} tokens"
    route = f"{facts['route']}{' stream' if facts['stream'] else ''}  model {facts['model']}"
    body = f"body {facts['payload_bytes']} bytes  deadline {clock_text(facts['deadline_ms'])}"
    lines = [f"{who}  {bounds}", f"{route}  {body}"]
    if reach := facts["reach"]:
        said = (f"{name} {_plain(value)}" for name, value in reach.items() if value)
        lines.append(f"reaches {', '.join(said)}")
    if batch := facts.get("batch_id"):
        lines.append(f"line {facts['batch_line']} of {batch}")
    return [*lines, *_indented(facts.get("payload"))]


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value).lower()


def _deferred(facts: Facts) -> list[str]:
    not_before_ms = facts["not_before_ms"]
    return ["again at once" if not_before_ms is None else f"until {clock_text(not_before_ms)}"]


def _admitted(facts: Facts) -> list[str]:
    price = facts["price"]
    lines = [f"price {price['version'] if price else 'none'}  config {facts['config_offset']}"]
    for hold in facts["holds"]:
        limit = "no limit"
        if hold["limit"] is not None:
            limit = f"limit {amount_text(hold['unit'], hold['limit'])}"
        amount = amount_text(hold["unit"], hold["amount"])
        lines.append(f"holds {amount} of {hold['key']}, {limit}")
    if isinstance(facts["rate_status"], list):
        lines += [_rate(rate) for rate in facts["rate_status"] if isinstance(rate, dict)]
    return lines


def _rate(rate: Facts) -> str:
    return f"rate {rate.get('id')}: {rate.get('remaining')} of {rate.get('limit')} left"


def _attempt(facts: Facts) -> list[str]:
    took_ms = facts["finished_at_ms"] - facts["started_at_ms"]
    parts = [f"{facts['attempt']} {facts['backend']} {facts['status']}"]
    if facts["upstream_status"] is not None:
        parts.append(str(facts["upstream_status"]))
    if facts["first_token_at_ms"] is not None:
        parts.append(f"first token +{facts['first_token_at_ms'] - facts['started_at_ms']} ms")
    return ["  ".join([*parts, f"{took_ms} ms", _consumption(facts)])]


def _consumption(facts: Facts) -> str:
    counts = f"{facts['input_tokens']}+{facts['output_tokens']} tokens"
    kinds = [f"{facts[name]} {kind}" for name, kind in _KINDS.items() if facts[name]]
    if kinds:
        counts += f" ({', '.join(kinds)})"
    if facts["service_tier"] is not None:
        counts += f"  tier {facts['service_tier']}"
    if facts.get("told_input_tokens") is not None:  # Lines of usage have none.
        counts += (
            f"  said {facts['told_input_tokens']}+{facts['told_output_tokens']}, which cannot be"
        )
    cost = facts["cost_nano_usd"]
    money = "no price" if cost is None else f"{usd(cost)} USD"
    return f"{counts}  {money}{'  estimated' if facts['estimated'] else ''}"


def _finished(facts: Facts) -> list[str]:
    parts = [facts["status"], str(facts["http_status"])]
    if facts["error_code"] is not None:
        parts.append(facts["error_code"])
    if facts["result_bytes"]:
        parts.append(f"result {facts['result_bytes']} bytes")
    lines = ["  ".join(parts)]
    if facts["error_message"] is not None:
        lines.append(facts["error_message"])
    if said := facts["said"]:
        named = (f"{name} {value}" for name, value in said.items() if value is not None)
        lines.append(f"the backend named {', '.join(named)}")
    if facts["denial"] is not None:
        lines.append(_denial(facts["denial"]))
    lines += [_booking(booking) for booking in facts["bookings"]]
    return [*lines, *_indented(facts.get("result"))]


def _denial(denial: Facts) -> str:
    usage = amount_text(denial["unit"], denial["current_usage"])
    limit = amount_text(denial["unit"], denial["limit"])
    text = f"{denial['limit_type']} {denial['limit_id']}: used {usage} of {limit}"
    retry_ms = denial["retry_after_ms"]
    return text if retry_ms is None else f"{text}; retry after {retry_ms} ms"


def _booking(booking: Facts) -> str:
    return f"books {amount_text(booking['unit'], booking['amount'])} on {booking['key']}"


def _adjusted(facts: Facts) -> list[str]:
    head = f"attempt {facts['attempt']} revision {facts['revision']}: {facts['reason']}"
    return [f"{head}  {_consumption(facts)}", *map(_booking, facts["bookings"])]


def _usage(facts: Facts) -> list[str]:
    return [f"{facts['usage_id']}  {facts['backend']}  {_consumption(facts)}"]


def _audit(facts: Facts) -> list[str]:
    return [f"{facts['action']} by {facts['actor']}  {detail_text(facts['detail'])}"]


def detail_text(detail: Any) -> str:
    """An audit event's detail on one line."""
    if not isinstance(detail, Mapping):
        return str(detail)
    return "  ".join(f"{name}={value}" for name, value in detail.items() if value is not None)


def _indented(text: str | None) -> list[str]:
    return [] if text is None else [f"  {line}" for line in text.splitlines()]


_DESCRIBED: Mapping[str, Callable[[Facts], list[str]]] = {
    "accepted": _accepted,
    "deferred": _deferred,
    "admitted": _admitted,
    "attempt": _attempt,
    "finished": _finished,
    "adjusted": _adjusted,
    "usage": _usage,
    "audit": _audit,
}

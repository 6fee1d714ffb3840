"""Every command with an answer of the admin API for it: the cases of the golden and the hostile tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.usage import COUNTED
from tests.unit.cli.commands_about_budget_services import ABOUT_BUDGET_SERVICES
from tests.unit.cli.commands_about_prices import ABOUT_PRICES
from tests.unit.cli.commands_about_routes import ABOUT_ROUTES
from tests.unit.cli.commands_about_webhooks import ABOUT_WEBHOOKS
from tests.unit.cli.key_answers import KEY, ROTATED, SECRET

AT_MS = 1_700_000_000_123
LETTER: dict[str, Any] = {
    "id": "inference.requests.v1.dlq-2@14",
    "at_ms": AT_MS,
    "key": "acme",
    "request_id": None,
    "stage": "decode",
    "error": "MalformedRecord",
    "message": "not published",
    "attempts": 0,
    "bytes": 1,
}
LETTER_PATH = "inference.requests.v1.dlq-2%4014"
SHOWN_LETTER: dict[str, Any] = LETTER | {
    "reason": {"stage": "decode", "exception.message": "not published"},
    "headers": {"traceparent": "00-1"},
    "retried_at_ms": AT_MS,
}
ORG: dict[str, Any] = {
    "id": "acme",
    "version": 3,
    "name": None,
    "limits": {"requests_per_s": 5, "burst": 9, "budgets": [{"usd": "1", "period": "day"}]},
}
MODEL: dict[str, Any] = {
    "id": "echo",
    "version": 2,
    "backends": [{"backend": "a", "weight": 3}, {"backend": "b", "weight": 1}],
    "input_usd_per_mtok": "0.5",
    "output_usd_per_mtok": "1.5",
    "default_max_output_tokens": 256,
}
BACKEND: dict[str, Any] = {
    "id": "a",
    "version": 1,
    "url": "http://127.0.0.1:9000/v1",
    "state": "active",
    "max_concurrency": 8,
    "timeout_s": 60.5,
    "api_key_env": None,
    "health": [{"instance": "dispatcher-0", "state": "open"}],
}
STATUS: dict[str, Any] = {
    "instances": [
        {"name": f"{role}-0", "role": role, "offset": 7 + n % 2, "age_ms": 1_249, "live": n != 2}
        for n, role in enumerate(("ingress", "limiter_worker", "dispatcher", "accounting"))
    ],
    "config": {
        "offset": 8,
        "following": True,
        "alarm": "the log is shorter",
        "problems": [{"where": "model/m", "what": "backend 'x' does not exist"}],
    },
    "overrides": [],
    "kafka_brokers": "127.0.0.1:1",
}
SHARD: dict[str, Any] = {
    "shard": 0,
    "state": "whole",
    "decides": True,
    "why": "",
    "step": "",
    "epoch": 7,
    "booked": 41,
    "ready_ms": AT_MS,
}
TRIAL: dict[str, Any] = {
    "shard": 0,
    "balances": 3,
    "records": 99,
    "differences": [{"org": "acme", "balance": "b:org/tokens:total", "ledger": 7, "log": 5}],
}
EVENT: dict[str, Any] = {
    "at_ms": AT_MS,
    "org": "acme",
    "action": "refused",
    "actor": "key_a",
    "request_id": "r1",
    "detail": {"code": "BUDGET_EXCEEDED", "limit": 5, "retry_after_ms": None},
}
ATTEMPT: dict[str, Any] = {
    "attempt": 1,
    "backend": "b1",
    "status": "succeeded",
    "upstream_status": 200,
    "started_at_ms": AT_MS + 9,
    "first_token_at_ms": AT_MS + 20,
    "finished_at_ms": AT_MS + 109,
    **dict.fromkeys(COUNTED, 0),
    "input_tokens": 12,
    "output_tokens": 34,
    "cached_tokens": 2,
    **dict.fromkeys(("service_tier", "told_input_tokens", "told_output_tokens")),
    "estimated": True,
    "cost_nano_usd": 57_000,
}
FINISHED: dict[str, Any] = {
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
        "retry_after_ms": 1_000,
    },
    "said": None,
    "bookings": [{"unit": "tokens", "amount": 3, "key": "b:org:day"}],
    "result_bytes": 0,
}
ACCEPTED: dict[str, Any] = {
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
    "deadline_ms": AT_MS + 60_000,
    "config_offset": 7,
    "payload_bytes": 48,
    "payload": "line 1\nline 2",
}


def _step(what: str, after_ms: int, facts: dict[str, Any], note: str | None) -> dict[str, Any]:
    place = f"inference.requests.v1-2@{after_ms}"
    return {"what": what, "at_ms": AT_MS + after_ms, "place": place, "note": note, "facts": facts}


TIMELINE: dict[str, Any] = {
    "request_id": "r1",
    "org": "acme",
    "status": "refused",
    "http_status": 402,
    "error_code": "BUDGET_EXCEEDED",
    "steps": [
        _step("accepted", 0, ACCEPTED, None),
        _step("deferred", 1, {"not_before_ms": AT_MS + 900}, None),
        _step("attempt", 9, ATTEMPT, None),
        _step("finished", 120, FINISHED, "copy 2, without effect"),
        _step("audit", 121, EVENT, None),
    ],
    "search": {"records": 9, "gave_up": None},
}
USAGE_ROW: dict[str, Any] = {
    "org": "acme",
    "model": "echo",
    "requests": 2,
    "attempts": 3,
    "input_tokens": 24,
    "output_tokens": 1_000_000,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
    "unpriced": 0,
    "cost_usd": "0.000001000",
}
USAGE: dict[str, Any] = {
    "by": ["org", "model"],
    "rows": [USAGE_ROW, USAGE_ROW | {"org": 'b,"c"', "cost_usd": None, "unpriced": 1}],
    "total": USAGE_ROW | {"org": None, "model": None, "requests": 4},
}
VERIFIED: dict[str, Any] = {
    "difference": 3,
    "differences": [
        {
            "org": "a",
            "what": "u:2026-11-25T20",
            "field": "output_tokens",
            "ledger": 0,
            "log": 3,
            "difference": -3,
            "explanation": {
                "because": "does not fit",
                "requests": ["r1"],
                "requests_total": 1,
                "rows": [["k\t-\tm\tb\toutput_tokens", 0, 3]],
            },
        }
    ],
    "organizations": 1,
    "usage_lines": 2,
    "since": "2026-10-13T00:00:00+00:00",
    "open_attempts": {"reserved": 0, "running": 1},
    "settled_not_booked": [{"org": "a", "req": "r1", "finished_ms": AT_MS}],
    "shards": [
        {"shard": 0, "state": "differs", "why": ""},
        {"shard": 1, "state": "behind", "why": "accounting has not booked all yet (2 sums)"},
    ],
}
RECONCILED: dict[str, Any] = {
    "from": "2026-11-25T20:00:00+00:00",
    "to": "2026-11-25T21:00:00+00:00",
    "gave_up": {"usage.records.v1": "time"},
    "outcomes": 2,
    "usage_lines": 2,
    "waiting": 0,
    "difference": 1,
    "findings": [
        {
            "kind": "usage_line_differs",
            "org": "a",
            "request_id": "r",
            "what": "r:1:0",
            "detail": "the line says 3",
        }
    ],
}
LAG: dict[str, Any] = {
    "group": "g",
    "topic": "t",
    "partition": 0,
    "committed": None,
    "end": 9,
    "lag": 5,
    "lag_ms": 1_499,
}
FILE = "orgs: {acme: {name: A}}\nprojects: {p: {org: acme}}\n"
ENTITIES: dict[str, Any] = {
    f"GET /{kind}": {"items": []}
    for kind in ("backends", "models", "orgs", "projects", "users", "keys")
} | {"GET /orgs": {"items": [ORG]}, "GET /overrides": {"items": []}}


@dataclass(frozen=True)
class Case:
    """One command line, what the admin API answers to it by method and path, and its status."""

    arguments: tuple[str, ...]
    answers: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200

    @property
    def id(self) -> str:
        name = " ".join(self.arguments)
        return name if self.status == 200 else f"{name} -> {self.status}"

    @property
    def with_json(self) -> Case:
        return Case((*self.arguments, "--json"), self.answers, self.status)


CASES = (
    Case(("keys", "list"), {"GET /keys": {"items": [KEY, KEY | {"revoked_at_ms": 1, "models": []}]}}),
    Case(
        (
            "keys", "create", "--org", "acme", "--name", "n", "--project", "p", "--user", "u",
            "--model", "a", "--model", "b", "--rps", "2.5", "--burst", "9", "--tokens-per-min", "7",
            "--scope", "jobs", "--scope", "models:read", "--network", "10.0.0.0/8", "--expires", "2027-01-01", "--signed",
            "--concurrency", "3", "--budget-usd", "10", "--period", "month", "--on-limit", "defer",
        ),
        {"POST /keys": SECRET | {"applied": False}},
    ),
    Case(("keys", "create", "--org", "acme"), {"POST /keys": SECRET}),
    Case(("keys", "create", "--org", "acme", "--budget-usd", "1")),
    Case(
        ("keys", "create", "--org", "new"),
        {"POST /keys": {"title": "Conflict", "detail": "key/key_1: organization 'new' does not exist",
                        "code": "reference_conflict"}},
        409,
    ),
    Case(("keys", "revoke", "key_1"), {"POST /keys/key_1/revoke": {"id": "key_1", "applied": True}}),
    Case(("keys", "rotate", "key_1", "--grace", "24h"), {"POST /keys/key_1/rotate": ROTATED}),
    Case(("keys", "rotate", "key_1"), {"POST /keys/key_1/rotate": SECRET}),
    Case(("orgs", "list"), {"GET /orgs": {"items": [ORG, ORG | {"id": "b", "name": "B", "limits": {"requests_per_s": None}}]}}),
    Case(
        ("orgs", "set", "acme", "--name", "Acme", "--rps", "7", "--budget-usd", "2", "--period", "total"),
        {"GET /orgs/acme": ORG, "PUT /orgs/acme": {"id": "acme", "version": 4}},
    ),
    *(Case(arguments, answers) for arguments, answers in ABOUT_BUDGET_SERVICES),
    *(Case(arguments, answers) for arguments, answers in ABOUT_WEBHOOKS),
    Case(("orgs", "set", "a/b"), {"PUT /orgs/a%2Fb": {"id": "a/b", "version": 1}}),
    Case(("models", "list"), {"GET /models": {"items": [MODEL]}}),
    Case(
        (
            "models", "set", "echo", "--backend", "a=3", "--backend", "b", "--input-usd-per-mtok", "0.1",
            "--output-usd-per-mtok", "0.2", "--cached-input-usd-per-mtok", "0.05",
            "--default-max-output-tokens", "5", "--max-output-tokens", "6", "--image-tokens", "7",
            "--output-limit-field", "max_completion_tokens", "--audio-tokens", "8", "--file-tokens", "9",
            "--max-tool-calls", "10", "--unknown-fields", "refuse", "--tokenizer", "o200k_base",
        ),
        {"GET /models/echo": MODEL, "PUT /models/echo": {"id": "echo", "version": 3}},
    ),
    Case(
        (
            "models", "set", "echo", "--upstream-model", "/m/Llama 3 (8B).gguf", "--tokenizer-file", "own.json", "--tokenizer-sha256", "ab12",
            "--context-window-tokens", "8000", "--input-overhead-tokens", "9",
        ),
        {"GET /models/echo": MODEL, "PUT /models/echo": {"id": "echo", "version": 3}},
    ),
    Case(("models", "set", "new")), *(Case(arguments, answers) for arguments, answers in ABOUT_PRICES),
    Case(("backends", "list"), {"GET /backends": {"items": [BACKEND, BACKEND | {"id": "b", "health": []}]}}),
    *(Case(arguments, answers) for arguments, answers in ABOUT_ROUTES),
    Case(("config", "diff", "-f", "tallygate.yaml"), ENTITIES),
    Case(("config", "diff", "--file", "missing.yaml"), ENTITIES),
    Case(
        ("config", "apply", "-f", "tallygate.yaml", "--prune"),
        ENTITIES | {"PUT /orgs/acme": {}, "PUT /projects/p": {}},
    ),
    Case(("config", "apply", "-f", "tallygate.yaml"), ENTITIES | {"PUT /orgs/acme": {}}),
    Case(("config", "status"), {"GET /status": STATUS}),
    Case(("config", "adopt"), {"POST /config/adopt": {"ended_below": 20, "offset": 3, "adopted": False}}),
    Case(("usage", "report", "--by", "org,model"), {"GET /usage": USAGE}),
    Case(("usage", "report", "--format", "csv", "--org", "acme"), {"GET /usage": USAGE}),
    Case(("usage", "report", "--format", "json", "--from", "2026-11-25T00:00:00Z", "--to", "x"), {"GET /usage": USAGE}),
    Case(("requests", "show", "r1", "--org", "acme", "--payload"), {"GET /requests/r1": TIMELINE}),
    Case(
        ("requests", "show", "r1"),
        {"GET /requests/r1": TIMELINE | {"search": {"records": 5, "gave_up": "records"}}},
    ),
    Case(
        ("requests", "show", "r1", "--trace"),
        {"GET /requests/r1": TIMELINE | {"trace": {"trace_id": "4bf92f35", "is_recorded": True}}},
    ),
    Case(("requests", "show", "unknown")),
    Case(
        ("audit", "list", "--org", "acme", "--request-id", "r1", "--from", "a", "--to", "b", "--limit", "5"),
        {"GET /audit": {"items": [EVENT], "search": {"records": 1, "gave_up": "time"}}},
    ),
    Case(("audit", "list"), {"GET /audit": {"items": [], "search": {"records": 0, "gave_up": None}}}),
    Case(("ledger", "verify", "--deadline-s", "2.5"), {"GET /ledger/verify": VERIFIED}),
    Case(
        ("ledger", "verify"),
        {"GET /ledger/verify": VERIFIED
            | {
                "difference": 0,
                "differences": [],
                "settled_not_booked": [],
                "shards": [{"shard": 0, "state": "equal", "why": ""}],
            }},
    ),
    Case(("ledger", "status"), {"GET /ledger/shards": {"items": [SHARD, SHARD | {"shard": 1, "state": "rebuilding", "decides": False, "why": "restarted"}]}}),
    Case(
        ("ledger", "rebuild", "--shard", "0"),
        {
            "POST /ledger/rebuild": {"shards": [0], "trial": None},
            "GET /ledger/shards": {"items": [SHARD, SHARD | {"shard": 1, "state": "closed", "decides": False}]},
        },
    ),
    Case(
        ("ledger", "rebuild", "--dry-run"),
        {
            "POST /ledger/rebuild": {"shards": [0], "trial": "t1"},
            "GET /ledger/shards": {"items": [SHARD | {"trial": "t1", "found": TRIAL}]},
        },
    ),
    Case(("reconcile", "--from", "a", "--to", "b"), {"GET /reconcile": RECONCILED}),
    Case(("reconcile",), {"GET /reconcile": RECONCILED | {"difference": 0, "findings": []}}),
    Case(("lag",), {"GET /lag": {"items": [LAG, LAG | {"partition": 1, "committed": 4, "lag_ms": None}]}}),
    Case(("lag",), {"GET /lag": {"title": "t", "detail": "d", "code": "service_unavailable"}}, 503),
    Case(
        ("dlq", "list", "--limit", "3"),
        {"GET /dlq": {"items": [{"topic": "t", "count": 1, "newest": [LETTER]}, {"topic": "u", "count": 0, "newest": []}]}},
    ),
    Case(
        ("dlq", "show", LETTER["id"]),
        {f"GET /dlq/{LETTER_PATH}": SHOWN_LETTER | {"malformed": "too short", "hex": "ff", "is_cut": True}},
    ),
    Case(
        ("dlq", "show", LETTER["id"], "--payload"),
        {f"GET /dlq/{LETTER_PATH}": SHOWN_LETTER | {"type": "RequestAccepted", "value": {"a": ["ü", 1.5]}}},
    ),
    Case(
        ("dlq", "retry", LETTER["id"], "--again"),
        {f"POST /dlq/{LETTER_PATH}/retry": {"topic": "t", "partition": 1, "offset": 5, "bytes": 1, "warning": "no effect"}},
    ),
    Case(
        ("dlq", "retry", LETTER["id"], "--dry-run"),
        {f"POST /dlq/{LETTER_PATH}/retry": {"topic": "t", "partition": 1, "offset": None, "bytes": 1}},
    ),
    Case(("topics", "apply", "--partitions", "3", "--replicas", "2", "--brokers", "h:1")),
    Case(("topics", "list"), {"GET /status": STATUS}),
    Case(("topics", "tail", "audit.router", "--from-beginning", "--max", "2", "--brokers", "h:1")),
    Case(("doctor", "--brokers", "h:1"), {**{f"GET /{kind}": {"items": []} for kind in ("backends", "models", "orgs", "projects", "users", "keys")}, "GET /status": STATUS, "GET /ledger/shards": {"items": [SHARD, SHARD | {"shard": 1, "state": "behind", "decides": False}], "servers": [{"maxmemory_bytes": 9, "policy": "allkeys-lru", "appends": True, "last_write": "ok"}]}}),
    Case(("doctor",), {"GET /status": {"title": "t", "detail": "d", "code": "c"}}, 503),
)  # fmt: skip
"""One case at least for every command that asks the gateway or Kafka; `up` and the processes do neither."""

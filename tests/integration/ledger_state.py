"""The state of a ledger, stored or modelled, in one shape that can be compared.

Empty hashes, zero counters and full buckets are left out, because both sides may drop them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from schemas.ledger.model.attempts import Attempt
from schemas.ledger.model.ledger import LedgerModel

Store: TypeAlias = Any
"""A synchronous redis client, whose replies are unions that no caller can narrow."""

FLOWS = {"r:rps": 3_000, "r:tpm": 7_777}
"""The rates behind the buckets, in thousandths of a unit per second."""

State: TypeAlias = dict[str, Any]


def nonzero(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(name): count for name, count in counts.items() if count}


def stored_state(store: Store, now_us: int) -> State:
    """The store's content in the shape of modelled_state()."""
    state: State = {}
    for raw in store.keys("*"):
        key = raw.decode()
        kind = key.partition("}:")[2][:2]
        if key == "meta":
            meta = store.hmget(key, "seen_ms", "grace_until")
            state["outage"] = [int(value or 0) for value in meta]
            continue
        if key in ("exp", "inf", "fin") or kind == "c:":
            content: Any = {
                m.decode(): int(s) for m, s in store.zrange(key, 0, -1, withscores=True)
            }
        elif kind == "r:":
            us, part = map(int, store.get(key).split(b":"))
            ahead = us + Fraction(part, FLOWS[key.partition("}:")[2]]) - now_us
            content = max(ahead, Fraction(0))
        elif kind == "a:":
            hashed = {k.decode(): v for k, v in store.hgetall(key).items()}
            job = hashed.pop("job", None)
            state |= {} if job is None else {f"{key}|job": job.decode()}
            content = stored_attempt(hashed) if hashed else None
        elif key.startswith("ended:"):
            content = [entry.decode() for entry in store.lrange(key, 0, -1)]
        elif kind == "jo":
            content = {m.decode(): int(s) for m, s in store.zrange(key, 0, -1, withscores=True)}
        elif kind == "k:":
            content = {k.decode(): v.decode() for k, v in store.hgetall(key).items()}
        else:
            content = nonzero({k.decode(): int(v) for k, v in store.hgetall(key).items()})
        if content:
            state[key] = content
    return state


def stored_attempt(fields: dict[str, bytes]) -> State:
    text = {name: value.decode() for name, value in fields.items() if name != "outcome"}
    holds = json.loads(text.get("holds", "{}"))
    return {
        "state": text.get("state", ""),
        "attempt": int(text.get("attempt", 1)),
        "deadline_ms": int(text.get("deadline_ms", 0)),
        "accepted_ms": int(text.get("accepted_ms", 0)),
        "info": text.get("info", ""),
        "terms": text.get("terms", ""),
        "incarnation_ms": int(text.get("inc", 0)),
        "answered": "answer" in text,
        "ran": text.get("ran") == "1",
        "holds": [(h["key"], h["unit"], int(h["amount"])) for h in holds.get("balances", ())],
        "leases": list(holds.get("leases", ())),
        "rates": [(r["key"], r["cost"]) for r in holds.get("rates", ())],
        "fence": int(text.get("fence", 0)),
        "owner": text.get("owner", ""),
        "lease_until_ms": int(text.get("lease_until_ms", 0)),
        "streamed": text.get("streamed") == "1",
        "cancel": "cancel" in text,
        "first": "first" in text,
        "outcome": fields.get("outcome", b""),
        "ends": text.get("ends", ""),
        "booked": {k.partition(":")[2]: v for k, v in text.items() if k.startswith("booked")},
    }


def modelled_attempt(attempt: Attempt) -> State:
    return {
        "state": attempt.state,
        "attempt": attempt.attempt,
        "deadline_ms": attempt.deadline_ms,
        "accepted_ms": attempt.accepted_ms,
        "info": attempt.info,
        "terms": attempt.terms,
        "incarnation_ms": attempt.incarnation_ms,
        "answered": attempt.answer is not None,
        "ran": attempt.ran,
        "holds": [(h.key, h.unit, h.amount) for h in attempt.holds],
        "leases": list(attempt.leases),
        "rates": [(r.key, r.cost) for r in attempt.rates],
        "fence": attempt.fence,
        "owner": attempt.owner,
        "lease_until_ms": attempt.lease_until_ms,
        "streamed": attempt.streamed,
        "cancel": attempt.cancel,
        "first": attempt.first is not None,
        "outcome": attempt.outcome,
        "ends": attempt.ends,
        "booked": {ref: f"{place[0]}:{place[1]}" for ref, place in attempt.booked.items()},
    }


def modelled_claims(model: LedgerModel) -> dict[tuple[str, str], State]:
    return {
        scope: {
            "request_id": claim.req,
            "fingerprint": claim.fingerprint,
            "produce_by_ms": str(claim.produce_by_ms),
            "deadline_ms": str(claim.deadline_ms),
        }
        for scope, claim in model.claims.held.items()
    }


def modelled_jobs(model: LedgerModel) -> State:
    state: State = {}
    for org, listed in model.jobs.listed.items():
        state[f"{{{org}}}:jobs"] = {req: created_ms for req, (created_ms, _) in listed.items()}
        state |= {f"{{{org}}}:a:{req}|job": info for req, (_, info) in listed.items()}
    return state


def modelled_state(model: LedgerModel, now_us: int) -> State:
    """The model's content by the keys of the store; empty hashes and full buckets left out."""

    def named(scopes: dict[tuple[str, str], Any], prefix: str = "") -> State:
        return {f"{{{org}}}:{prefix}{suffix}": value for (org, suffix), value in scopes.items()}

    def members(queue: dict[tuple[str, str], int]) -> dict[str, int]:
        return {"|".join(scope): score for scope, score in queue.items()}

    marks: State = {}
    for (org, partition), offset in model.books.reached.items():
        marks[f"{{{org}}}:m"] = {str(partition): offset}
    totals = {(org, "t:" + key[2:]): total for (org, key), total in model.limits.totals.items()}
    state: State = {
        **named({scope: nonzero(balance) for scope, balance in model.limits.balances.items()}),
        **named({scope: nonzero(total) for scope, total in totals.items()}),
        **named({scope: nonzero(table) for scope, table in model.books.usage.items()}, "u:"),
        **named({scope: max(tat - now_us, 0) for scope, tat in model.limits.buckets.items()}),
        **named(model.limits.leases),
        **named({scope: modelled_attempt(a) for scope, a in model.attempts.items()}, "a:"),
        **named(modelled_claims(model), "k:"),
        **{f"{{{org}}}:kn": nonzero(count) for org, count in model.claims.counted.items()},
        **modelled_jobs(model),
        **marks,
        "outage": [model.seen_ms or 0, model.grace_until_ms],
        "exp": members(model.expiring),
        "inf": members(model.inflight),
        "fin": members(model.books.finished),
        "forgot": nonzero(model.books.forgot),
        **{
            f"ended:{partition}": [f"{due_ms}|{org}|{req}" for due_ms, (org, req) in listed]
            for partition, listed in model.books.ended.items()
        },
    }
    return {key: content for key, content in state.items() if content}

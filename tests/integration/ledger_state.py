"""The state of a ledger, stored or modelled, in one shape that can be compared.

Empty hashes, zero counters and full buckets are left out, because both sides may drop them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from schemas.ledger import keys
from schemas.ledger.model.attempts import Attempt
from schemas.ledger.model.ledger import LedgerModel
from tests.support.one_shard import SHARD

Store: TypeAlias = Any
"""A synchronous redis client, whose replies are unions that no caller can narrow."""

FLOWS = {"r:rps": 3_000, "r:tpm": 7_777}
"""The rates behind the buckets, in thousandths of a unit per second."""

State: TypeAlias = dict[str, Any]


def nonzero(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(name): count for name, count in counts.items() if count}


_ZSETS = ("exp", "inf", "fin", "jobs", "changed", "kept")


def stored_state(store: Store, now_us: int) -> State:
    """The store's content in the shape of modelled_state()."""
    state: State = {}
    for raw in store.keys("*"):
        key = raw.decode()
        name = key.rpartition("|")[2]
        if name == "meta":
            meta = store.hmget(key, "seen_ms", "grace_until", "ready_ms")
            state["outage"] = [int(value or 0) for value in meta]
        elif name.startswith("a:"):
            state |= stored_request(key, {k.decode(): v for k, v in store.hgetall(key).items()})
        elif content := stored_content(store, key, name, now_us):
            state[key] = content
    return state


def stored_request(key: str, hashed: dict[str, bytes]) -> State:
    """An attempt, and apart from it what makes it a job."""
    job = hashed.pop("job", None)
    state = {} if job is None else {f"{key}|job": job.decode()}
    return state | ({key: stored_attempt(hashed)} if hashed else {})


def stored_content(store: Store, key: str, name: str, now_us: int) -> Any:
    """What any other key has."""
    if name in _ZSETS or name.startswith("c:"):
        return {m.decode(): int(s) for m, s in store.zrange(key, 0, -1, withscores=True)}
    if name.startswith("r:"):
        us, part = map(int, store.get(key).split(b":"))
        return max(us + Fraction(part, FLOWS[name]) - now_us, Fraction(0))
    if name == "forgot":
        return int(store.get(key))
    if name == "ended":
        return [entry.decode() for entry in store.lrange(key, 0, -1)]
    hashed = {k.decode(): v.decode() for k, v in store.hgetall(key).items()}
    if name.startswith("k:"):
        return hashed
    return nonzero({field: int(value) for field, value in hashed.items()})


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
        "spare": spare_of(holds),
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


def spare_of(holds: dict[str, Any]) -> list[tuple[str, int]] | None:
    """What a restored request holds once more; None of any other."""
    spare = holds.get("spare")
    return spare if spare is None else [(s["key"], int(s["amount"])) for s in spare or ()]


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
        "spare": None if attempt.spare is None else [(s.key, s.amount) for s in attempt.spare],
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
        state[keys.jobs(SHARD, org)] = {req: created_ms for req, (created_ms, _) in listed.items()}
        state |= {f"{keys.attempt(SHARD, org, req)}|job": info for req, (_, info) in listed.items()}
    return state


def modelled_state(model: LedgerModel, now_us: int) -> State:
    """The model's content by the keys of the store; empty hashes and full buckets left out."""

    def named(scopes: dict[tuple[str, str], Any], prefix: str = "") -> State:
        return {
            keys.of_org(SHARD, org, prefix + suffix): value
            for (org, suffix), value in scopes.items()
        }

    def members(queue: dict[tuple[str, str], int]) -> dict[str, int]:
        return {"|".join(scope): score for scope, score in queue.items()}

    marks: State = {}
    for (org, partition), offset in model.books.reached.items():
        marks[keys.mark(SHARD, org)] = {str(partition): offset}
    totals = {(org, "t:" + key[2:]): total for (org, key), total in model.limits.totals.items()}
    state: State = {
        **named({scope: nonzero(balance) for scope, balance in model.limits.balances.items()}),
        **named({scope: nonzero(total) for scope, total in totals.items()}),
        **named({scope: nonzero(table) for scope, table in model.books.usage.items()}, "u:"),
        **named({scope: max(tat - now_us, 0) for scope, tat in model.limits.buckets.items()}),
        **named(model.limits.leases),
        **named({scope: modelled_attempt(a) for scope, a in model.attempts.items()}, "a:"),
        **named(modelled_claims(model), "k:"),
        **{
            keys.of_org(SHARD, org, "kn"): nonzero(count)
            for org, count in model.claims.counted.items()
        },
        **modelled_jobs(model),
        **marks,
        "outage": [model.seen_ms or 0, model.grace_until_ms, model.ready_ms],
        keys.of_shard(SHARD, keys.EXPIRING): members(model.expiring),
        keys.of_shard(SHARD, keys.INFLIGHT): members(model.inflight),
        keys.of_shard(SHARD, keys.FINISHED): members(model.books.finished),
        keys.of_shard(SHARD, keys.CHANGED): model.books.changed,
        keys.of_shard(SHARD, keys.KEPT): model.books.kept,
        keys.of_shard(SHARD, keys.FORGOT): model.books.forgot_ms,
        keys.of_shard(SHARD, keys.ENDED): [
            f"{due_ms}|{org}|{req}" for due_ms, (org, req) in model.books.ended
        ],
    }
    return {key: content for key, content in state.items() if content}

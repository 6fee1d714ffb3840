"""Judges a run in which the ledger was lost: by backends' logs, clients' history, and the budgets as they were given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.chaos.check import Findings, check, cost_nano_usd
from tests.chaos.evidence import OK, Evidence
from tests.chaos.ledger_loss_run import Replay, Run
from tests.chaos.refusals import refusals_of, wrong_refusals
from tests.chaos.stores import settled, table_costs

BALANCE = "org/nano_usd:total"
_ENDED = ("completed", "failed", "cancelled", "expired")


@dataclass(frozen=True)
class LossFindings:
    """Sentences that begin with what they are about, by what is wrong."""

    lost: tuple[str, ...]
    contradicted: tuple[str, ...]
    unbilled: tuple[str, ...]
    doubled: tuple[str, ...]
    misinformed: tuple[str, ...]
    unreleased: tuple[str, ...]
    overspent: tuple[str, ...]
    refused_wrongly: tuple[str, ...]
    """Refused for a spent budget while it was not."""
    misbooked: tuple[str, ...]
    """Tables or balances that are not what backends logged, estimates for vanished attempts aside."""
    replayed_wrongly: tuple[str, ...]
    """Keys that are answered otherwise than before, or with another call."""
    unlisted: tuple[str, ...]
    """Promised jobs that no list has, or with another end than the log's."""
    closed: tuple[str, ...]
    """Shards that never came back, or without all their books."""
    unverified: tuple[str, ...]
    """What `tallygate ledger verify --full` named at the end."""
    wrong: tuple[str, ...]
    """What was wrong about the loss itself."""
    refusals: int
    """How many refusals for spent budgets were judged."""
    replays: int
    jobs: int

    @property
    def is_clean(self) -> bool:
        """Nothing was found, and there was enough to look at."""
        found = [getattr(self, name) for name in self.__dataclass_fields__]
        return not any(each for each in found if isinstance(each, tuple)) and self.refusals > 0


def judge(run: Run) -> LossFindings:
    """All checks over one run."""
    evidence = run.evidence
    base: Findings = check(evidence)
    servers = list(run.servers)
    tables, balances = table_costs(servers), settled(servers, BALANCE)
    return LossFindings(
        lost=base.lost,
        contradicted=base.contradicted,
        unbilled=base.unbilled,
        doubled=base.doubled,
        misinformed=base.misinformed,
        unreleased=base.unreleased,
        overspent=base.overspent,
        refused_wrongly=tuple(
            wrong_refusals(evidence, evidence.ceilings, run.worst_nano_usd, run.clock)
        ),
        misbooked=(
            *misbooked(evidence, tables, "tables"),
            *misbooked(evidence, balances, "balance"),
        ),
        replayed_wrongly=(
            *(text for replay in run.replays if (text := wrong_replay(replay))),
            *(f"{request_id}: called for again" for request_id in run.called_again),
        ),
        unlisted=tuple(unlisted(run)),
        closed=tuple(closed(run)),
        unverified=run.verified.findings,
        wrong=(*run.wrong, *unheld(run.held, run.shards)),
        refusals=refusals_of(evidence.clients),
        replays=len(run.replays),
        jobs=sum(client.promised is not None for client in evidence.clients),
    )


def closed(run: Run) -> Iterator[str]:
    """Shards that did not come back whole; all of them, where none was closed at all."""
    if not any(run.shards.values()):
        yield "no shard was closed"
    for number, again in run.shards.items():
        if again is not None and again.complete_s is None:
            yield f"shard {number} under epoch {again.epoch}"


def unheld(held: Mapping[str, Mapping[int, int]], shards: Iterable[int]) -> Iterator[str]:
    """Primaries and shards in which no organization stood, so that their loss showed nothing."""
    yield from (f"{server} held no organization" for server, its in held.items() if not its)
    known = {number for its in held.values() for number in its}
    yield from (f"shard {number} held no organization" for number in set(shards) - known)


def misbooked(evidence: Evidence, booked: dict[str, int], what: str) -> list[str]:
    """Organizations for which another amount is booked than backends logged.

    What an estimate stands for is only known to lie between the call's cost and the estimate.
    """
    orgs = {request.request_id: request.org for request in evidence.accepted}
    estimates: dict[str, int] = defaultdict(int)
    for line in {line.usage_id: line for line in evidence.usage}.values():
        if line.estimated:
            estimates[orgs.get(line.request_id, "")] += line.cost_nano_usd or 0
    spent: dict[str, int] = defaultdict(int)
    for call in evidence.calls:
        spent[orgs.get(call.start.request_id or "", "")] += cost_nano_usd(call)
    return [
        f"{org}: {what} {booked.get(org, 0)}, backends {spent[org]}, estimates {estimates[org]}"
        for org in sorted(spent.keys() | booked.keys())
        if not 0 <= booked.get(org, 0) - spent[org] <= estimates[org]
    ]


def wrong_replay(replay: Replay) -> str | None:
    """What is wrong with the answer of a key that was answered before."""
    first, again = replay.first, replay.again
    if again.result != OK:
        return f"{replay.marker}: {again.result}, first {first.request_id}"
    if again.request_id != first.request_id:
        return f"{replay.marker}: {again.request_id}, first {first.request_id}"
    if again.text_sha256 != first.text_sha256:
        return f"{replay.marker}: another text for {first.request_id}"
    return None


def unlisted(run: Run) -> list[str]:
    """Promised jobs that their organization's list lacks or tells wrongly."""
    ends: dict[str, str] = {}
    for outcome in run.evidence.outcomes:
        ends.setdefault(outcome.request_id, outcome.status)
    found = []
    for client in run.evidence.clients:
        if client.promised is None:
            continue
        status = run.listed.get(client.org, {}).get(client.promised)
        end = ends.get(client.promised)
        if status is None:
            found.append(f"{client.promised} of {client.org}: not listed")
        elif end in _ENDED and status != end:
            found.append(f"{client.promised} of {client.org}: {status}, but it {end}")
    return found

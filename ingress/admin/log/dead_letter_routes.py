"""``/admin/v1/dlq``: count dead letters, show them, and give them another try.

A letter is retried once unless told otherwise: the claim on it stays in the ledger store for as long as
the letter stays in Kafka. It is given back when the broker did not take the record.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import msgspec
from aiokafka import ConsumerRecord
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.http.bodies import number, read_as
from ingress.admin.http.peer import actor_of
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.audit_trail import record_audit
from ingress.admin.log.dead_letters import (
    DEAD_LETTER_TOPICS,
    LetterSummary,
    can_only_expire,
    detail,
    id_of,
    parse_id,
    retry_of,
    summary,
)
from ingress.admin.log.positions import newest_of, positions_of, records_at
from schemas.errors import ErrorCode
from schemas.events import AuditRecorded, RecordRef
from schemas.ledger.keys import dead_letter_retried
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import ProduceFailed, Producer
from schemas.topics import TOPICS

_LIMIT_DEFAULT = 10
_LIMIT_MAX = 100
_READ_DEADLINE_S = 5.0
_PRODUCE_DEADLINE_S = 10.0
_CLAIM_MS = {topic.name: topic.retention_ms for topic in TOPICS}


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /dlq/{id}/retry``."""

    again: bool = False
    dry_run: bool = False


class TopicLetters(TypedDict):
    """The dead letters of one topic."""

    topic: str
    dead_letters: str
    count: int
    newest: list[LetterSummary]


class DeadLettersAnswer(TypedDict):
    """The dead letters of every topic."""

    items: list[TopicLetters]


class RetryAnswer(TypedDict):
    """What a retry appends to the original topic, and where it stands then; of a trial nowhere."""

    id: str
    topic: str
    key: str
    headers: dict[str, str]
    bytes: int
    warning: NotRequired[str]
    dry_run: NotRequired[bool]
    partition: NotRequired[int]
    offset: NotRequired[int]


@dataclass(frozen=True, slots=True)
class DeadLetterRoutes:
    """The handlers of dead letters."""

    deps: AdminDeps

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/dlq", self.list_all, methods=["GET"]),
            Route("/dlq/{id}", self.show, methods=["GET"]),
            Route("/dlq/{id}/retry", self.retry, methods=["POST"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """Per topic, how many there are, and the newest ``?limit=``."""
        given = request.query_params.get("limit", str(_LIMIT_DEFAULT))
        limit = number(given, "limit", 1, _LIMIT_MAX)
        if isinstance(limit, Refusal):
            return problem_response(limit)
        brokers = self.deps.settings.kafka_brokers
        positions = await positions_of(brokers, DEAD_LETTER_TOPICS)
        clock = self.deps.clock
        newest = await newest_of(brokers, positions, limit, clock, _READ_DEADLINE_S, summary)
        items: list[TopicLetters] = [
            {
                "topic": topic,
                "dead_letters": name,
                "count": sum(at.records for p, at in positions.items() if p.topic == name),
                "newest": [letter for of, letter in newest if of == name][:limit],
            }
            for name, topic in DEAD_LETTER_TOPICS.items()
        ]
        return JSONResponse({"items": items})

    async def show(self, request: Request) -> Response:
        """One letter; ``?payload=true`` shows texts."""
        letter = await self._find(request.path_params["id"])
        if isinstance(letter, Refusal):
            return problem_response(letter)
        with_payload = request.query_params.get("payload") == "true"
        retried_at_ms = await self.deps.ledger_store.call("GET", dead_letter_retried(id_of(letter)))
        return JSONResponse(
            detail(letter, with_payload=with_payload) | {"retried_at_ms": _time_ms(retried_at_ms)}
        )

    async def retry(self, request: Request) -> Response:
        """Append the original record to its topic again, or say what would be appended."""
        wanted = await read_as(request, Retry)
        if isinstance(wanted, Refusal):
            return problem_response(wanted)
        letter = await self._find(request.path_params["id"])
        if isinstance(letter, Refusal):
            return problem_response(letter)
        record = retry_of(letter)
        answer = _answer(letter, record, self.deps.clock.now_ms())
        if wanted.dry_run:
            answer["dry_run"] = True
            return JSONResponse(answer)
        if not await self._claim(letter, again=wanted.again):
            return problem_response(
                _invalid(
                    f"{id_of(letter)} was retried already; 'again' (--again) retries it anyway"
                )
            )
        ref = await self._append(letter, record)
        await self._audit(letter, record, ref, actor_of(request.scope))
        answer["partition"], answer["offset"] = ref.partition, ref.offset
        return JSONResponse(answer)

    async def _find(self, text: str) -> ConsumerRecord | Refusal:
        wanted = parse_id(text)
        if wanted is None:
            return _invalid("an id is <dead letter topic>-<partition>@<offset>, as in the list")
        brokers = self.deps.settings.kafka_brokers
        positions = await positions_of(brokers, {wanted.partition.topic})
        at = positions.get(wanted.partition)
        if at is not None and at.begin <= wanted.offset < at.end:
            offsets = {wanted.partition: wanted.offset}
            found = await records_at(brokers, offsets, self.deps.clock, _READ_DEADLINE_S)
            if wanted.partition not in found:
                raise TimeoutError(f"{text} was not read within {_READ_DEADLINE_S:.0f} s")
            if found[wanted.partition].offset == wanted.offset:
                return found[wanted.partition]
        return Refusal(ErrorCode.NOT_FOUND, f"{text} does not exist, or no longer")

    async def _claim(self, letter: ConsumerRecord, *, again: bool) -> bool:
        """Whether this retry may go on; others that come later may not."""
        once = () if again else ("NX",)
        claimed = await self.deps.ledger_store.call(
            "SET", dead_letter_retried(id_of(letter)), self.deps.clock.now_ms(), *once,
            "PX", _CLAIM_MS[letter.topic] or 0,
        )  # fmt: skip
        return claimed is not None

    async def _append(self, letter: ConsumerRecord, record: Outgoing) -> RecordRef:
        """A producer of its own, since that of the process knows the topics of its own records only."""
        settings = self.deps.settings
        producer = Producer(settings.kafka_brokers, f"{settings.instance_id}-dlq")
        try:
            await producer.start((record.topic,))
            return await asyncio.wait_for(producer.send(record), _PRODUCE_DEADLINE_S)
        except (ProduceFailed, TimeoutError):
            await self.deps.ledger_store.call("DEL", dead_letter_retried(id_of(letter)))
            raise
        finally:
            await producer.stop()

    async def _audit(
        self, letter: ConsumerRecord, record: Outgoing, ref: RecordRef, actor: str
    ) -> None:
        facts = {"letter": id_of(letter), "partition": ref.partition, "offset": ref.offset}
        is_by_org = any(t.name == record.topic and t.key == "org_id" for t in TOPICS)
        event = AuditRecorded(
            audit_id=f"dlq:{id_of(letter)}>{ref.partition}@{ref.offset}",
            org=record.key.decode(errors="replace") if is_by_org else "",
            action="admin.dlq_retry",
            actor=actor,
            request_id=summary(letter)["request_id"],
            at_ms=self.deps.clock.now_ms(),
            detail=msgspec.json.encode(facts | {"topic": record.topic}).decode(),
        )
        await record_audit(self.deps.producer, event)


def _answer(letter: ConsumerRecord, record: Outgoing, now_ms: int) -> RetryAnswer:
    answer: RetryAnswer = {
        "id": id_of(letter),
        "topic": record.topic,
        "key": record.key.decode(errors="replace"),
        "headers": {name: value.decode(errors="replace") for name, value in record.headers},
        "bytes": len(record.value or b""),
    }
    if can_only_expire(letter, now_ms):
        answer["warning"] = "its deadline passed: it ends as expired, unless it has ended already"
    return answer


def _time_ms(reply: object) -> int | None:
    """The time that a store keeps, or ``None`` where it keeps none."""
    return int(reply) if isinstance(reply, bytes) and reply.isdigit() else None


def _invalid(detail: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, detail)

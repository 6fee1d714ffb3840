"""``/admin/v1/webhooks``: what became of messages, delivering them anew, and the secrets of an organization.

A secret is derived for its answer; nothing here logs or stores it, and auditors are told who asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypedDict, get_args

import msgspec
from aiokafka import TopicPartition
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.http.bodies import number, organization, read_as
from ingress.admin.http.peer import actor_of
from ingress.admin.http.presence import while_present
from ingress.admin.http.refusal import Refusal, problem_response
from ingress.admin.log.audit_routes import SearchShown
from ingress.admin.log.audit_trail import record_audit
from ingress.admin.log.search import TO_THE_END_MS, Bounds, search_log
from ingress.admin.log.webhook_messages import READ, Messages, MessageShown, WebhookState
from schemas.entities import EntityId
from schemas.errors import ErrorCode
from schemas.events import AuditRecorded, WebhookMessage
from schemas.outgoing import webhook_record
from schemas.partitions import partition_of
from schemas.runtime.kafka.free_consumer import committed_offsets
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.kafka.topic_admin import list_topics
from schemas.topics import WEBHOOK_GROUP, WEBHOOKS
from schemas.webhook_signing import webhook_secret

_PARAMETERS: Final = {"org", "state", "since_s", "limit"}
_STATES: Final = get_args(WebhookState)
_SPAN_S: Final = 24 * 3_600
SPAN_S_MAX: Final = 14 * 24 * 3_600
_LIMIT_DEFAULT: Final = 100
_LIMIT_MAX: Final = 1_000
_PRODUCE_WITHIN_S: Final = 30.0
_MessageId = Annotated[str, msgspec.Meta(pattern=r"^msg_[0-9a-f]{32}\Z")]


class Redelivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /webhooks/redeliver``: whose messages, of how long ago at most."""

    org: EntityId
    id: _MessageId | None = None
    """One message, delivered or not; without it all that were given up."""
    since_s: Annotated[int, msgspec.Meta(ge=1, le=SPAN_S_MAX)] = 7 * 24 * 3_600
    """Of what happened in so many seconds up to now."""
    delivered: bool = False
    """Also what was delivered, where a receiver lost it."""
    dry_run: bool = False


class SecretsOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /webhooks/secrets``."""

    org: EntityId


class WebhooksAnswer(TypedDict):
    """The newest messages, and how complete the search was."""

    items: list[MessageShown]
    search: SearchShown


class RedeliveredAnswer(TypedDict):
    """How many messages are delivered anew, or would be; their ids, the first hundred."""

    count: int
    ids: list[str]
    dry_run: bool
    search: SearchShown


class WebhookSecret(TypedDict):
    """A secret that signs."""

    generation: int
    secret: str


class WebhookSecretsAnswer(TypedDict):
    """The secrets that sign for an organization."""

    org: str
    secrets: list[WebhookSecret]


@dataclass(frozen=True, slots=True)
class WebhookRoutes:
    """The handlers of webhooks."""

    deps: AdminDeps

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            Route("/webhooks", self.list_all, methods=["GET"]),
            Route("/webhooks/redeliver", self.redeliver, methods=["POST"]),
            Route("/webhooks/secrets", self.secrets, methods=["POST"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """The newest messages, of one organization or state where that is asked."""
        params = request.query_params
        unknown = set(params) - _PARAMETERS
        if unknown:
            return _invalid(f"unknown parameters: {', '.join(sorted(unknown))}")
        org, state = organization(params), params.get("state")
        limit = number(params.get("limit", str(_LIMIT_DEFAULT)), "limit", 1, _LIMIT_MAX)
        since_s = number(params.get("since_s", str(_SPAN_S)), "since_s", 1, SPAN_S_MAX)
        for refused in (org, limit, since_s):
            if isinstance(refused, Refusal):
                return problem_response(refused)
        if state is not None and state not in _STATES:
            return _invalid(f"'state' is one of {', '.join(_STATES)}")
        assert not isinstance(org, Refusal)
        assert isinstance(limit, int)
        assert isinstance(since_s, int)
        wanted = next((each for each in _STATES if each == state), None)
        return await while_present(request, self._listed(org, wanted, since_s, limit))

    async def redeliver(self, request: Request) -> Response:
        """Messages into the outbox again, under the ids that their receiver knows."""
        wanted = await read_as(request, Redelivery)
        if isinstance(wanted, Refusal):
            return problem_response(wanted)
        found, search = await self._messages(wanted.org, wanted.since_s)
        again = found.again(wanted.id, also_delivered=wanted.delivered)
        if wanted.id is not None and not again:
            what = f"no message {wanted.id} of {wanted.org!r} that does not wait already"
            return problem_response(Refusal(ErrorCode.NOT_FOUND, what))
        if again and not wanted.dry_run:
            await self._append(again)
            await self._audit(wanted.org, "admin.webhooks_redeliver", request, count=len(again))
        answer: RedeliveredAnswer = {
            "count": len(again),
            "ids": [each.message_id for each in again[:_LIMIT_DEFAULT]],
            "dry_run": wanted.dry_run,
            "search": search,
        }
        return JSONResponse(answer)

    async def secrets(self, request: Request) -> Response:
        """The secrets that sign for an organization, under the current pepper."""
        wanted = await read_as(request, SecretsOf)
        if isinstance(wanted, Refusal):
            return problem_response(wanted)
        org = self.deps.config.snapshot.organizations.get(wanted.org)
        peppers = self.deps.settings.webhook_peppers
        if org is None or org.webhooks is None or not peppers.live:
            what = f"organization {wanted.org!r} has no webhooks"
            return problem_response(Refusal(ErrorCode.NOT_FOUND, what))
        await self._audit(wanted.org, "admin.webhook_secrets", request)
        answer: WebhookSecretsAnswer = {
            "org": wanted.org,
            "secrets": [
                {"generation": each, "secret": webhook_secret(peppers.current, wanted.org, each)}
                for each in org.webhooks.secrets
            ],
        }
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    async def _listed(
        self, org: str | None, state: WebhookState | None, since_s: int, limit: int
    ) -> Response:
        found, search = await self._messages(org, since_s)
        answer: WebhooksAnswer = {"items": found.newest(state, limit), "search": search}
        return JSONResponse(answer)

    async def _messages(self, org: str | None, since_s: int) -> tuple[Messages, SearchShown]:
        """What the topics say; how far was committed is asked first, so that nothing that waits counts as delivered."""
        brokers, clock = self.deps.settings.kafka_brokers, self.deps.clock
        committed = (await committed_offsets(brokers, [WEBHOOK_GROUP]))[WEBHOOK_GROUP]
        from_ms = clock.now_ms() - 1_000 * since_s
        found = Messages(committed, org, from_ms)
        span_ms = clock.appended_span_ms(from_ms, from_ms)[0], TO_THE_END_MS
        partitions = await self._partitions(org)
        async with search_log(brokers, partitions, span_ms, clock, Bounds()) as search:
            async for batch in search.batches():
                for record in batch:
                    found.add(record)
        gave_up = search.gave_up or ("records" if found.is_cut else None)
        return found, {"records": search.records, "gave_up": gave_up}

    async def _partitions(self, org: str | None) -> list[TopicPartition]:
        """Of the outbox only the organization's own."""
        states = await list_topics(self.deps.settings.kafka_brokers)
        counts = {state.name: state.partitions for state in states if state.name in READ}
        return [
            TopicPartition(name, number)
            for name, count in counts.items()
            for number in range(count)
            if name != WEBHOOKS or org is None or number == partition_of(org.encode(), count)
        ]

    async def _append(self, messages: Sequence[WebhookMessage]) -> None:
        """A producer of its own, since that of the process knows the topics of its own records only."""
        settings = self.deps.settings
        producer = Producer(settings.kafka_brokers, f"{settings.instance_id}-webhooks")
        try:
            await producer.start((WEBHOOKS,))
            sending = [producer.send(webhook_record(each, "admin")) for each in messages]
            await asyncio.wait_for(asyncio.gather(*sending), _PRODUCE_WITHIN_S)
        finally:
            await producer.stop()

    async def _audit(self, org: str, action: str, request: Request, **facts: int) -> None:
        now_ms = self.deps.clock.now_ms()
        event = AuditRecorded(
            audit_id=f"{action}:{org}:{now_ms}",
            org=org,
            action=action,
            actor=actor_of(request.scope),
            at_ms=now_ms,
            detail=msgspec.json.encode(facts).decode(),
        )
        await record_audit(self.deps.producer, event)


def _invalid(detail: str) -> Response:
    return problem_response(Refusal(ErrorCode.INVALID_REQUEST, detail))

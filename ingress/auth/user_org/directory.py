"""Asks the user-org service whose a caller is, and lives with its being slow, odd or away.

An answer is taken for its stated time and asked for again before that ends, by its ETag, so that who calls often never
waits. While the service cannot be asked the last answer holds for a stated time; then its callers get 503. One question
about somebody is under way at a time, and a bounded number about everybody: a service that hangs costs those whom nobody
knows yet two seconds, then nothing, and callers with API keys nothing at all.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

import httpx
import msgspec

from ingress.auth.bounded_get import bounded_get
from ingress.auth.breaker import Breaker
from ingress.auth.callers_file import Issuer, UserOrgService
from ingress.auth.identity import Identity, user_id_of
from ingress.auth.user_org.answers import (
    ANSWER_BYTES_MAX,
    CREDENTIAL,
    ISSUER,
    PATH,
    SUBJECT,
    Found,
    Known,
    Odd,
    Reading,
    Unchanged,
    Unknown,
    read_answer,
)
from ingress.auth.user_org.memory import Memory, Remembered
from ingress.http.refusals import Refusal
from schemas.caller_ids import USER_ORG, of_user_org
from schemas.errors import ErrorCode
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics

__all__ = ["Directory", "Question"]

_LOG = EventLog(__name__)

_WAITING_PER_PLACE: Final = 4
"""Questions that wait for each one that may be under way."""
_AGAIN_S: Final = 1.0
"""How long a remembered answer is taken without a try after the service could not be asked."""
_AWAY: Final = Refusal(
    ErrorCode.SERVICE_UNAVAILABLE,
    "The user-org service cannot say now whose this caller is.",
)
_BUSY: Final = Odd("too many questions are waiting", is_down=False)
_OPEN: Final = Odd("it failed again and again, and is left alone", is_down=False)


class Question(msgspec.Struct, frozen=True):
    """Whom the service is asked about, as headers."""

    who: bytes
    """A digest, under which the answer is remembered."""
    headers: dict[str, str]

    @classmethod
    def credential(cls, secret: str) -> Question:
        """About whoever shows a credential, which only the service can judge."""
        who = hashlib.sha256(b"credential\0" + secret.encode()).digest()
        return cls(who, {CREDENTIAL: secret})

    @classmethod
    def subject(cls, issuer: str, subject: str) -> Question:
        """About a user whom an identity provider vouched for."""
        who = hashlib.sha256(f"subject\0{issuer}\0{subject}".encode(errors="surrogatepass"))
        said = quote(subject, safe="", errors="surrogatepass")
        return cls(who.digest(), {ISSUER: issuer, SUBJECT: said})


class _Places:
    """How many questions may be under way, and how many may wait for that."""

    def __init__(self, places: int) -> None:
        self._free = asyncio.Semaphore(places)
        self._left = places * (1 + _WAITING_PER_PLACE)

    def take(self) -> bool:
        """Take a place to wait at; ``False`` when none is left. It must be left again."""
        if self._left == 0:
            return False
        self._left -= 1
        return True

    def leave(self) -> None:
        """Nobody waits there any more."""
        self._left += 1

    async def turn(self, within_s: float) -> asyncio.Semaphore | None:
        """What to release once the question was answered; ``None`` when its turn did not come in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._free.acquire()
        except TimeoutError:
            return None
        return self._free


class Directory:
    """The user-org service, as callers are told from it."""

    def __init__(
        self,
        service: UserOrgService,
        token: str | None,
        client: httpx.AsyncClient,
        monotonic_s: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._service = service
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._client = client
        self._now_s = monotonic_s
        self._metrics = metrics
        self._memory = Memory(
            service.entries_max,
            fresh_s=service.fresh_s,
            unknown_s=service.unknown_s,
            stale_s=service.stale_s,
        )
        self._breaker = Breaker()
        self._about_known = _Places(service.concurrency)
        self._about_strangers = _Places(service.concurrency)
        self._asking: dict[bytes, asyncio.Task[Reading]] = {}
        self.trouble: str | None = None
        """Why it could not be asked last time; ``None`` when it could."""

    def told_trouble(self) -> str | None:
        """Why it could not be asked last time; ``None`` when it could."""
        return self.trouble

    async def subject(self, subject: str, issuer: Issuer) -> Identity | Refusal:
        """Whose a user is whom an issuer vouched for; 403 where the service knows nobody of that name."""
        said = await self._say(Question.subject(issuer.issuer, subject))
        if isinstance(said, Refusal):
            return said
        if said is None:
            what = "The user-org service does not know this user."
            return Refusal(ErrorCode.CALLER_NOT_ALLOWED, what)
        user = said.user or user_id_of(subject)
        needs_user = issuer.users == "configured"
        told = self._identity(issuer.key_id, said, user, needs_user=needs_user)
        if issuer.scopes is None or isinstance(told, Refusal):
            return told
        both = issuer.scopes if told.scopes is None else set(issuer.scopes) & set(told.scopes)
        return msgspec.structs.replace(told, scopes=tuple(sorted(both)))

    async def credential(self, secret: str) -> Identity | Refusal | None:
        """Whose a credential is that nobody else here knows; ``None`` where the service knows it neither."""
        said = await self._say(Question.credential(secret))
        if said is None or isinstance(said, Refusal):
            return said
        return self._identity(of_user_org(said.key), said, said.user, needs_user=False)

    def _identity(
        self, key_id: str, said: Known, user: str | None, *, needs_user: bool
    ) -> Identity | Refusal:
        orgs = self._service.orgs
        if orgs is not None and said.org not in orgs:
            what = "The user-org service may not speak for the organization that it names."
            return Refusal(ErrorCode.CALLER_NOT_ALLOWED, what)
        return Identity(key_id, said.org, said.project, user, said.models, needs_user, said.scopes)

    async def _say(self, question: Question) -> Known | Refusal | None:
        """What the service says, or said; ``None`` for nobody, 503 when nobody can tell."""
        now_s, memory = self._now_s(), self._memory
        found = memory.find(question.who)
        if found is not None and memory.is_fresh(found, now_s):
            if memory.is_ageing(found, now_s):
                self._begin(question, found)
            return _known(found)
        if found is not None and now_s < found.again_at_s and memory.is_usable(found, now_s):
            return _known(found)
        reading = await self._ask_once(question, found)
        if not isinstance(reading, Odd):
            found = memory.find(question.who)
            return None if found is None else _known(found)
        is_usable = found is not None and memory.is_usable(found, self._now_s())
        return _known(found) if found is not None and is_usable else _AWAY

    async def _ask_once(self, question: Question, found: Remembered | None) -> Reading:
        """Ask, together with whoever else wants to know that now; leaving the wait does not end it."""
        asking = self._begin(question, found)
        return asking if isinstance(asking, Odd) else await asyncio.shield(asking)

    def _begin(self, question: Question, found: Remembered | None) -> asyncio.Task[Reading] | Odd:
        asking = self._asking.get(question.who)
        if asking is not None:
            return asking
        is_known = found is not None and isinstance(found.said, Found)
        places = self._about_known if is_known else self._about_strangers
        refused = None if self._breaker.may_ask(self._now_s()) else _OPEN
        if refused is None and not places.take():
            refused = _BUSY
        if refused is not None:
            self._metrics.count("tallygate_identity_questions_total", USER_ORG, "not_asked")
            return refused
        asking = asyncio.create_task(self._ask(question, found, places))
        self._asking[question.who] = asking

        def end(_: asyncio.Task[Reading]) -> None:
            del self._asking[question.who]
            places.leave()

        asking.add_done_callback(end)
        return asking

    async def _ask(self, question: Question, found: Remembered | None, places: _Places) -> Reading:
        etag = found.said.etag if found is not None and isinstance(found.said, Found) else None
        turn = await places.turn(self._service.timeout_s)
        reading: Reading = _BUSY
        if turn is not None:
            try:
                reading = await self._get(question, etag)
            finally:
                turn.release()
        self._learn(question.who, found, reading)
        return reading

    async def _get(self, question: Question, etag: str | None) -> Reading:
        headers = {**self._headers, **question.headers}
        if etag is not None:
            headers["if-none-match"] = etag
        answer = await bounded_get(
            self._client,
            self._service.url.rstrip("/") + PATH,
            headers,
            bytes_max=ANSWER_BYTES_MAX,
            within_s=self._service.timeout_s,
        )
        return read_answer(answer, has_etag=etag is not None)

    def _learn(self, who: bytes, found: Remembered | None, reading: Reading) -> None:
        now_s = self._now_s()
        match reading:
            case Odd():
                self._note_trouble(reading)
                if found is not None:
                    found.again_at_s = now_s + _AGAIN_S
            case Unchanged():
                assert found is not None, "an ETag was sent"
                self._memory.note(who, found.said, now_s)
            case Found() | Unknown():
                self._memory.note(who, reading, now_s)
        is_ok = not isinstance(reading, Odd)
        if is_ok or (isinstance(reading, Odd) and reading.is_down):
            self._breaker.note(is_ok=is_ok, now_s=now_s)
        if is_ok and self.trouble is not None:
            self.trouble = None
            _LOG.event(LogEvent.USER_ORG_BACK)
        outcome = "failed" if isinstance(reading, Odd) else type(reading).__name__.lower()
        self._metrics.count("tallygate_identity_questions_total", USER_ORG, outcome)

    def _note_trouble(self, odd: Odd) -> None:
        if self.trouble is None:
            _LOG.event(LogEvent.USER_ORG_AWAY, cause=odd.why)
        self.trouble = odd.why


def _known(found: Remembered) -> Known | None:
    return found.said.known if isinstance(found.said, Found) else None

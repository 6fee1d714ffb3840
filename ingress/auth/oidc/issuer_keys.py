"""The keys of one identity provider: found by discovery, read again in the background, kept while it is away.

The last good set stays in force for a day without the provider, also over a restart, from a file beside the copy of the
configuration. A token under an unknown key has the set read anew, all such tokens together, every thirty seconds at
most: so a new key is known at once, and a flood of invented ones asks the provider nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx
import msgspec

from ingress.auth.bounded_get import bounded_get
from ingress.auth.callers_file import Issuer, address_problem
from ingress.auth.http_answer import Answer
from ingress.auth.oidc.key_set import KeySet, SigningKey, read_key_set
from schemas.log_events import LogEvent
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics

__all__ = ["IssuerKeys"]

_LOG = EventLog(__name__)

_DISCOVERY: Final = "/.well-known/openid-configuration"
_ANSWER_BYTES_MAX: Final = 256 * 1024
_WITHIN_S: Final = 3.0
"""Of each of the two questions."""
_REFRESH_S: Final = 300.0
_AGAIN_S: Final = 5.0
"""How soon it is tried again after a failure."""
_UNKNOWN_KEY_S: Final = 30.0
_STALE_MS_MAX: Final = 24 * 3_600 * 1_000
_WAITING_MAX: Final = 256
"""Requests that wait for one reading at once."""
_OK: Final = 200


class _Discovered(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _Kept(msgspec.Struct):
    """The last good set on disk."""

    issuer: str
    read_at_ms: int
    body: str


class IssuerKeys:
    """The key set of an issuer, and the one task that reads it."""

    def __init__(
        self,
        issuer: Issuer,
        client: httpx.AsyncClient,
        folder: Path,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._path = folder / f"{issuer.name}.json"
        self._clock = clock
        self._metrics = metrics
        self._set: KeySet | None = None
        self._read_at_ms = 0
        self._tried_at_s: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting = 0
        self.trouble: str | None = None
        """Why the provider could not be read last time; ``None`` when it could."""

    def told_trouble(self) -> str | None:
        """Why the provider could not be read last time; ``None`` when it could."""
        return self.trouble

    @property
    def current(self) -> KeySet | None:
        """The set in force; ``None`` while there is none, or it is too old."""
        if self._set is None or self._clock.now_ms() - self._read_at_ms > _STALE_MS_MAX:
            return None
        return self._set

    async def run(self) -> None:
        """Take the set from disk, then read it again for ever."""
        await self._take_kept()
        while True:
            await self._read_once()
            pause_s = _REFRESH_S if self.trouble is None else _AGAIN_S
            await asyncio.sleep(pause_s)

    async def candidates(self, kid: str | None, algorithm: str) -> Sequence[SigningKey] | None:
        """The keys that may have signed; ``None`` while nobody can tell, since no set is known."""
        known = self.current
        if known is None or not known.knows(kid):
            await self._look_again(is_unknown_key=known is not None)
            known = self.current
        return None if known is None else known.candidates(kid, algorithm)

    async def newer_candidates(self, algorithm: str) -> Sequence[SigningKey]:
        """The keys of a set that is newer than the one in force, for a token that names no key; none while it is not
        time to look for one."""
        known = self.current
        await self._look_again(is_unknown_key=True)
        newer = self.current
        return () if newer is None or newer is known else newer.candidates(None, algorithm)

    async def _look_again(self, *, is_unknown_key: bool) -> None:
        """Wait for a reading of the set, if one is under way or due."""
        now_s, tried_at_s = self._clock.monotonic_s(), self._tried_at_s
        pause_s = _UNKNOWN_KEY_S if is_unknown_key else _AGAIN_S
        is_due = tried_at_s is None or now_s - tried_at_s >= pause_s
        if (self._reading is None and not is_due) or self._waiting >= _WAITING_MAX:
            return
        self._waiting += 1
        try:
            await self._read_once()
        finally:
            self._waiting -= 1

    async def _read_once(self) -> None:
        """Read the set, together with whoever else wants that now; leaving the wait does not end it."""
        reading = self._reading
        if reading is None:
            reading = self._reading = asyncio.create_task(self._read())
            reading.add_done_callback(self._end_reading)
        await asyncio.shield(reading)

    def _end_reading(self, _: asyncio.Task[None]) -> None:
        self._reading = None

    async def _read(self) -> None:
        self._tried_at_s = self._clock.monotonic_s()
        found = await self._ask()
        outcome = "failed" if isinstance(found, str) else "ok"
        self._metrics.count("tallygate_identity_questions_total", self._issuer.key_id, outcome)
        if isinstance(found, str):
            if self.trouble is None:
                _LOG.event(LogEvent.ISSUER_AWAY, entity=self._issuer.key_id, cause=found)
            self.trouble = found
            return
        is_new = self._set is None or self._set.body != found.body
        if is_new or self.trouble is not None:
            _LOG.event(LogEvent.ISSUER_READ, entity=self._issuer.key_id, count=len(found.keys))
        self._set = found if is_new else self._set
        self._read_at_ms, self.trouble = self._clock.now_ms(), None
        await asyncio.to_thread(self._keep, found)

    async def _ask(self) -> KeySet | str:
        """The set as the provider gives it now, or why it does not."""
        issuer = self._issuer
        told = await self._get(issuer.issuer.rstrip("/") + _DISCOVERY)
        if isinstance(told, str):
            return f"discovery: {told}"
        try:
            discovered = msgspec.json.decode(told.body, type=_Discovered)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return f"discovery: {error}"
        if discovered.issuer != issuer.issuer:
            return f"discovery: it says that it is {discovered.issuer[:200]!r}"
        problem = address_problem(discovered.jwks_uri)
        if problem is not None:
            return f"discovery: jwks_uri {problem}"
        answer = await self._get(discovered.jwks_uri)
        if isinstance(answer, str):
            return f"key set: {answer}"
        keys = read_key_set(answer.body, issuer.algorithms)
        return f"key set: {keys}" if isinstance(keys, str) else keys

    async def _get(self, url: str) -> Answer | str:
        answer = await bounded_get(
            self._client, url, {}, bytes_max=_ANSWER_BYTES_MAX, within_s=_WITHIN_S
        )
        if isinstance(answer, str) or answer.status == _OK:
            return answer
        return f"its answer has the status {answer.status}"

    async def _take_kept(self) -> None:
        kept = await asyncio.to_thread(self._kept)
        if kept is None or self._set is not None:
            return
        keys = read_key_set(kept.body.encode(), self._issuer.algorithms)
        if not isinstance(keys, str):
            self._set, self._read_at_ms = keys, kept.read_at_ms

    def _kept(self) -> _Kept | None:
        """What is on disk of this issuer; whatever is wrong with it, it is read from the provider."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return kept if kept.issuer == self._issuer.issuer else None

    def _keep(self, keys: KeySet) -> None:
        kept = _Kept(self._issuer.issuer, self._read_at_ms, keys.body.decode())
        beside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(kept))
            beside.replace(self._path)
        except OSError as error:
            _LOG.event(LogEvent.KEY_SET_NOT_KEPT, entity=self._issuer.key_id, error=error)

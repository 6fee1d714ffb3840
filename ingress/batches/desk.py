"""Takes batches in, finds them for their callers, and cancels them. Those of other organizations look like none, and to a user those of
others and of programs do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingress.apis.openai.batches import WINDOW, WINDOW_S, BatchObject, BatchRequest
from ingress.apis.openai.files import BATCH
from ingress.auth.caller import Caller
from ingress.batches.batch import ENDED, Batch, batch_id, is_batch_id
from ingress.batches.lines import BATCHED
from ingress.batches.store import BatchStore
from ingress.files.shelf import AWAY, Shelf
from ingress.files.stock import FileMissing, FilesAway
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.ids import UUID7_RANDOM_BYTES
from schemas.log_events import LogEvent
from schemas.runtime.process.clock import Clock, random_bytes
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

OPEN_MAX: Final = 32
"""Batches of one organization that have not ended."""
KEPT_MAX: Final = 1_000
"""Of one organization; the oldest that ended gives way to a new one."""
_NONE: Final = Refusal(ErrorCode.NOT_FOUND, "There is no such batch.")
_WAIT_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class BatchDesk:
    """Where batches are asked for."""

    store: BatchStore
    shelf: Shelf
    clock: Clock

    async def create(
        self, caller: Caller, asked: BatchRequest, webhook_url: str | None = None
    ) -> Batch | Refusal:
        """A new batch, which some process will run; its end is told at ``webhook_url``, or where its organization is told."""
        file = await self.shelf.find(caller, asked.input_file_id)
        if isinstance(file, Refusal) or file.purpose != BATCH:
            if isinstance(file, Refusal) and file.code is not ErrorCode.NOT_FOUND:
                return file
            message = "input_file_id must be a file of this organization with the purpose batch."
            return Refusal(ErrorCode.INVALID_REQUEST, message, param="input_file_id")
        now_ms = self.clock.now_ms()
        batch = Batch(
            id=batch_id(now_ms, random_bytes(UUID7_RANDOM_BYTES)),
            operation=BATCHED[asked.endpoint].name,
            endpoint=asked.endpoint,
            input_file_id=file.id,
            input_bytes=file.bytes,
            caller=caller,
            expires_at_s=now_ms // 1_000 + WINDOW_S,
            output_kept_s=asked.output_kept_s,
            metadata=asked.metadata,
            webhook_url=webhook_url,
        )
        try:
            refusal = await self._make_room(caller.org)
            if refusal is None:
                await self.store.begin(batch)
        except FilesAway as error:
            return _away(error)
        return refusal or batch

    async def find(self, caller: Caller, batch: str) -> Batch | Refusal:
        """A batch of the caller as it is now."""
        if not is_batch_id(batch):
            return _NONE
        try:
            found = await self.store.find(caller.org, batch)
        except FilesAway as error:
            return _away(error)
        return found[0] if found is not None and _is_open_to(found[0], caller) else _NONE

    async def list_all(
        self, caller: Caller, after: str | None, limit: int
    ) -> tuple[list[Batch], bool] | Refusal:
        """A page of the caller's batches, newest first, and whether there are more."""
        page: list[Batch] = []
        try:
            for each in await self.store.ids(caller.org):
                if after is not None and each >= after:
                    continue
                found = await self.store.find(caller.org, each)
                if found is not None and _is_open_to(found[0], caller):
                    if len(page) == limit:
                        return page, True
                    page.append(found[0])
        except FilesAway as error:
            return _away(error)
        return page, False

    async def cancel(self, caller: Caller, batch: str) -> Batch | Refusal:
        """Have a batch cancelled, which takes as long as its lines under way need to end; one that ended stays as it is."""
        found = await self.find(caller, batch)
        if isinstance(found, Refusal) or found.status in ENDED:
            return found
        try:
            await self.store.ask_cancel(caller.org, batch)
        except FilesAway as error:
            return _away(error)
        return found.to("cancelling", self.clock.now_ms() // 1_000)

    async def _make_room(self, org: str) -> Refusal | None:
        """Why the organization may have no more now. Raises ``FilesAway``."""
        running = sum(each == org for each, _ in await self.store.open())
        if running >= OPEN_MAX:
            message = (
                f"The organization has {running} batches that have not ended, {OPEN_MAX} may be."
            )
            return Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, message, retry_after_ms=_WAIT_MS)
        for old in (await self.store.ids(org))[KEPT_MAX - 1 :]:
            found = await self.store.find(org, old)
            if found is not None and found[0].status in ENDED:
                await self.store.forget(org, old)
        return None


def batch_object(batch: Batch) -> BatchObject:
    """The batch as OpenAI tells it."""
    at = batch.times.get
    errors = [
        {"code": each.code, "message": each.message, "param": each.param, "line": each.line}
        for each in batch.errors
    ]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": errors} if errors else None,  # type: ignore[typeddict-item]
        "input_file_id": batch.input_file_id,
        "completion_window": WINDOW,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": batch.created_at_s,
        "in_progress_at": at("in_progress"),
        "expires_at": batch.expires_at_s,
        "finalizing_at": at("finalizing"),
        "completed_at": at("completed"),
        "failed_at": at("failed"),
        "expired_at": at("expired"),
        "cancelling_at": at("cancelling"),
        "cancelled_at": at("cancelled"),
        "request_counts": batch.counts,
        "usage": {
            "input_tokens": batch.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": batch.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.input_tokens + batch.output_tokens,
        },
        "metadata": batch.metadata,
    }


def _is_open_to(batch: Batch, caller: Caller) -> bool:
    return caller.owner is None or caller.owner == batch.caller.owner


def _away(error: FilesAway | FileMissing) -> Refusal:
    _LOG.event(LogEvent.FILES_AWAY, error=error)
    return AWAY

"""What is run, where, and how it ended: the values that all of the dispatcher hands on. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from schemas.entities import Backend
from schemas.errors import ERRORS, ErrorCode
from schemas.events import RecordRef, RequestAccepted, RequestAdmitted, Said
from schemas.routes import RETRIES_MAX

AbortReason: TypeAlias = Literal["cancelled", "stale", "stopping"]
"""Why others end a call: the client is gone; somebody else owns the request; this process stops."""


class AdmittedRequest(msgspec.Struct, frozen=True):
    """A request to run: what was admitted, and where its records stand."""

    admitted: RequestAdmitted
    request: RequestAccepted
    """As accepted, but that its deadline is no later than it may run."""
    ref: RecordRef
    due_ms: int = 0
    """When its answer is due; 0 where that is the deadline of the request."""

    @property
    def deadline_ms(self) -> int:
        """The deadline that it was accepted with, which is that of its outcome."""
        return self.due_ms or self.request.deadline_ms


class Result(msgspec.Struct, frozen=True):
    """How the last attempt ended, in the client's terms."""

    status: str
    """completed, failed, cancelled, expired or refused, as in the outcome."""
    code: ErrorCode | None = None
    http_status: int | None = None
    """The status where it is not the code's own: a backend's 4xx."""
    message: str | None = None
    body: bytes = b""
    retry_after_ms: int | None = None
    said: Said | None = None
    """What the backend named beside its message."""
    kept: bytes = b""
    """A streamed answer as one, where its outcome keeps it; its client has had it already."""

    @property
    def answered_status(self) -> int:
        """The HTTP status the client gets."""
        if self.http_status is not None:
            return self.http_status
        return 200 if self.code is None else ERRORS[self.code].status

    @property
    def client_message(self) -> str | None:
        """The message the client gets."""
        return self.message or (ERRORS[self.code].title if self.code else None)


class Choice(msgspec.Struct, frozen=True):
    """A backend to call, and the name it knows the model by."""

    backend_id: str
    backend: Backend
    """With the timeouts that hold for this call."""
    upstream_model: str | None
    retries: int = RETRIES_MAX
    """How many more may be called after this one, should it fail."""

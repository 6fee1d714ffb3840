"""Refusals that repeat, as audit events: one for each cause and second, listing every request. Pure.

A flood of refusals must not become a flood of audit records, and no refusal may go unrecorded: whoever
asks for one request finds the event that lists it. After a kill that may be two events: whoever counts
requests counts their ids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from schemas.events import AuditRecorded, Denial

__all__ = ["IDS_PER_EVENT", "Bounds", "RefusalTally", "Refused", "is_about"]

IDS_PER_EVENT: Final = 500
"""Request ids that one event lists, 20 KB of them; a cause with more makes more events."""
_IDS_MAX: Final = 50_000
_MS_PER_S: Final = 1_000


class Bounds(msgspec.Struct, frozen=True):
    """The most that a request can use: what it was refused for, beside the limit."""

    input_tokens: int
    output_tokens: int
    nano_usd: int | None
    """``None`` without a price, and where nobody can tell."""


class _Listing(msgspec.Struct):
    request_ids: tuple[str, ...] = ()


_Cause: TypeAlias = tuple[str, str, str, str, str, int]


@dataclass(frozen=True, slots=True)
class Refused:
    """One refusal: whose request, under which code, by which limit (``None`` when by none)."""

    request_id: str
    org: str
    actor: str
    """Id of the API key."""
    code: str
    at_ms: int
    denial: Denial | None = None
    model: str | None = None
    bounds: Bounds | None = None
    """``None`` of one that was refused before it was read."""

    def cause(self) -> _Cause:
        """What refusals that share an event have in common."""
        limit_id = self.denial.limit_id if self.denial is not None else ""
        second = self.at_ms // _MS_PER_S
        return self.org, self.actor, self.code, limit_id, self.model or "", second


@dataclass(slots=True)
class _Alike:
    first: Refused
    request_ids: list[str] = field(default_factory=list)
    bounds: list[Bounds | None] = field(default_factory=list)
    """Of each of them."""
    unlisted: int = 0
    """How many there were beyond the bound."""


@dataclass(slots=True)
class RefusalTally:
    """Collects refusals until they are taken; at most 50 000 ids, beyond which they are counted."""

    _alike: dict[_Cause, _Alike] = field(default_factory=dict)
    _listed: int = 0

    def add(self, refused: Refused) -> None:
        """One more refusal."""
        cause = refused.cause()
        alike = self._alike.get(cause)
        if alike is None:
            alike = self._alike[cause] = _Alike(refused)
        if self._listed < _IDS_MAX:
            alike.request_ids.append(refused.request_id)
            alike.bounds.append(refused.bounds)
            self._listed += 1
        else:
            alike.unlisted += 1

    def take(self) -> list[AuditRecorded]:
        """The events of all refusals since they were last taken."""
        taken, self._alike, self._listed = self._alike, {}, 0
        return [event for alike in taken.values() for event in _events(alike)]


def is_about(event: AuditRecorded, request_id: str) -> bool:
    """Whether the event is about the request, alone or among others."""
    if event.request_id is not None:
        return event.request_id == request_id
    # The text is looked at first, because most events are about others.
    return request_id in event.detail and request_id in _listed_in(event.detail)


def _listed_in(detail: str) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(detail, type=_Listing).request_ids
    except msgspec.DecodeError:
        return ()


def _events(alike: _Alike) -> list[AuditRecorded]:
    listed = list(zip(alike.request_ids, alike.bounds, strict=True))
    parts = [listed[at : at + IDS_PER_EVENT] for at in range(0, len(listed), IDS_PER_EVENT)] or [[]]
    unlisted = [alike.unlisted] + [0] * (len(parts) - 1)
    return [_event(alike.first, *part) for part in zip(parts, unlisted, strict=True)]


def _told_bounds(bounds: list[Bounds | None]) -> dict[str, Any]:
    """The bounds of the listed requests, in their order; one for all where they are the same, as in a client's loop."""
    if not any(bounds):
        return {}
    is_one = len(set(bounds)) == 1
    return {"bounds": bounds[0] if is_one else bounds}


def _digest(detail: dict[str, Any]) -> str:
    """Tells events apart that begin alike: after a kill the same refusals may be grouped anew, and a
    reader that drops what it knows by its id must not drop those that were added."""
    return hashlib.sha256(msgspec.json.encode(detail)).hexdigest()[:16]


def _event(first: Refused, listed: list[tuple[str, Bounds | None]], unlisted: int) -> AuditRecorded:
    request_ids = [request_id for request_id, _ in listed]
    detail: dict[str, Any] = {"code": first.code}
    if first.denial is not None:
        detail |= msgspec.structs.asdict(first.denial)
    if first.model is not None:
        detail["model"] = first.model
    detail |= _told_bounds([bounds for _, bounds in listed])
    is_single = len(request_ids) == 1 and not unlisted
    if not is_single:
        detail |= {"count": len(request_ids) + unlisted, "request_ids": request_ids}
    name = request_ids[0] if request_ids else first.request_id
    return AuditRecorded(
        audit_id=f"{name}:refused" if is_single else f"{name}:refused:{_digest(detail)}",
        org=first.org,
        action="refused",
        actor=first.actor,
        request_id=name if is_single else None,
        at_ms=first.at_ms,
        detail=msgspec.json.encode(detail).decode(),
    )

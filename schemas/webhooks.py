"""Where an organization is told of what happened, by webhooks: its own address, and those its requests may name. Pure.

Convention: Standard Webhooks (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import msgspec

from schemas.backend_url import URL_CHARS_MAX, url_problem

__all__ = [
    "EVENT_KINDS",
    "EventKind",
    "SecretGeneration",
    "Webhooks",
    "is_covered",
    "webhook_problem",
]

EventKind: TypeAlias = Literal["job", "response", "threshold"]
"""What an event is about; the first part of its type, such as ``job.completed``."""
EVENT_KINDS: Final[tuple[EventKind, ...]] = get_args(EventKind)
WebhookUrl: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^https?://[^\s@]+\Z", max_length=URL_CHARS_MAX)
]
SecretGeneration: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_DOT_SEGMENT: Final = re.compile(r"/(\.|%2e){1,2}(/|\Z)", re.IGNORECASE)
_PORTS: Final = {"http": 80, "https": 443}


class Webhooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an organization is told, of what, and which of its secrets sign.

    Raises ``ValueError`` for an address that nobody can call.
    """

    url: WebhookUrl | None = None
    """Where events go that name no address; ``None`` where only what names one is told of."""
    allowed: Annotated[tuple[WebhookUrl, ...], msgspec.Meta(max_length=32)] = ()
    """What an address begins with that a request names, at the end of a path's segment: the same scheme, host and port at
    least. Nothing else may be named."""
    events: Annotated[tuple[EventKind, ...], msgspec.Meta(max_length=len(EVENT_KINDS))] | None = (
        None
    )
    """The kinds of events that are told at ``url``; ``None`` for all."""
    secrets: Annotated[tuple[SecretGeneration, ...], msgspec.Meta(min_length=1, max_length=2)] = (
        1,
    )
    """The generations of the secrets that sign, two while one replaces the other."""

    def __post_init__(self) -> None:
        """Judge the addresses; msgspec tells a ``ValueError`` with the place in the body."""
        for url in (self.url, *self.allowed):
            if url is not None and (problem := webhook_problem(url)):
                raise ValueError(problem)
        if len(set(self.secrets)) != len(self.secrets):
            raise ValueError("secrets: the same generation twice")

    def tells(self, kind: EventKind) -> bool:
        """Whether events of this kind are told at ``url``."""
        return self.url is not None and (self.events is None or kind in self.events)


def webhook_problem(url: str) -> str | None:
    """What is wrong with the address of a webhook; ``None`` when it can be called."""
    if problem := url_problem(url):
        return problem
    if _DOT_SEGMENT.search(urlsplit(url).path):
        return "the path of a webhook's url has no segments . and .."
    return None


def is_covered(url: str, allowed: Sequence[str]) -> bool:
    """Whether an address without a problem begins with one of those that are allowed."""
    origin, path = _parts(url)
    return any(_begins(origin, path, *_parts(each)) for each in allowed)


def _begins(
    origin: tuple[str, str, int], path: str, allowed_origin: tuple[str, str, int], prefix: str
) -> bool:
    if origin != allowed_origin:
        return False
    return path == prefix or path.startswith(f"{prefix.rstrip('/')}/")


def _parts(url: str) -> tuple[tuple[str, str, int], str]:
    """Scheme, host and port as they are compared, and the path."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    return (parts.scheme, host, parts.port or _PORTS[parts.scheme]), parts.path or "/"

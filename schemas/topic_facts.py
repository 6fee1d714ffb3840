"""What brokers tell of topics and of who is allowed what, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Acl", "TopicFacts"]


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """One listed topic; no partitions: it is missing."""

    name: str
    partitions: int = 0
    replicas: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Acl:
    """One entry of Kafka's access control list, as far as topics and groups go."""

    principal: str
    resource: str
    name: str
    pattern: str
    """``literal``, where ``*`` names all, or ``prefixed``."""
    operation: str
    is_denial: bool = False

"""What an operator configures: organizations, projects, users, keys, models and backends.

Each entity is a frozen value read from the JSON of a config entry. Unknown fields are refused, so a
typo is an error and not a silent default. Amounts of USD are decimal strings.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

__all__ = [
    "KINDS",
    "Backend",
    "Budget",
    "Entity",
    "Key",
    "Kind",
    "Limits",
    "Model",
    "Organization",
    "Project",
    "Quota",
    "Target",
    "User",
]

Usd: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?$")]
EntityId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$")]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Rate: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10**10)]
"""The ledger's buckets are exact far beyond this."""
Kind: TypeAlias = Literal["organization", "project", "user", "key", "model", "backend"]


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ceiling on cost per calendar period in UTC, or in total."""

    usd: Usd
    period: Literal["day", "month", "total"]


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ceiling on requests or tokens per calendar period in UTC."""

    amount: Positive
    unit: Literal["requests", "tokens"]
    period: Literal["day", "month"]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one organization, project, user or key may use; ``None`` means no such limit here.

    Organizations and keys without ``requests_per_s`` get the gateway's default rate.
    """

    requests_per_s: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    burst: Rate | None = None
    tokens_per_min: Rate | None = None
    concurrency: Positive | None = None
    budgets: tuple[Budget, ...] = ()
    quotas: tuple[Quota, ...] = ()
    on_limit: Literal["reject", "defer"] | None = None


class Organization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who pays."""

    name: str | None = None
    limits: Limits = Limits()


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of an organization, with limits of its own."""

    org: EntityId
    limits: Limits = Limits()


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person or service of an organization, with limits of its own."""

    org: EntityId
    limits: Limits = Limits()


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An API key; only the HMAC of its secret is kept."""

    org: EntityId
    hash: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    display: str
    """First and last characters of the secret, to recognise it by."""
    created_at_ms: int
    name: str | None = None
    project: EntityId | None = None
    user: EntityId | None = None
    limits: Limits = Limits()
    models: tuple[EntityId, ...] | None = None
    """Models the key may use; ``None`` for all."""
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One backend of a model's route."""

    backend: EntityId
    weight: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    upstream_model: str | None = None
    """The backend's name of the model, where it differs."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model name clients may ask for: its route and its price."""

    backends: Annotated[tuple[Target, ...], msgspec.Meta(min_length=1)]
    input_usd_per_mtok: Usd | None = None
    output_usd_per_mtok: Usd | None = None
    cached_input_usd_per_mtok: Usd | None = None
    """Price of cached input tokens; the input price when not given."""
    default_max_output_tokens: Positive = 4_096
    """Bound of the output where the client states none."""
    max_output_tokens: Positive | None = None
    image_tokens: Positive | None = None
    """Proved bound of the tokens of one image part; without it images are refused."""


class Backend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An OpenAI-compatible server. ``url`` is what ``OPENAI_BASE_URL`` would be."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s@]+$")]
    api_key_env: str | None = None
    """Environment variable of the dispatcher that holds the backend's key."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 120
    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_024
    state: Literal["active", "drained"] = "active"


Entity: TypeAlias = Organization | Project | User | Key | Model | Backend

KINDS: Final[dict[Kind, type[Entity]]] = {
    "organization": Organization,
    "project": Project,
    "user": User,
    "key": Key,
    "model": Model,
    "backend": Backend,
}

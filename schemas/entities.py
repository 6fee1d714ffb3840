"""What an operator configures: organizations, projects, users, keys, models and backends. Pure.

Each entity is a frozen value read from the JSON of a config entry. Unknown fields are refused, so a
typo is an error and not a silent default. Amounts of USD are decimal strings.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, cast

import msgspec

from schemas.backend_url import URL_CHARS_MAX, url_problem
from schemas.entity_fields import EntityId, Name, TimeMs
from schemas.networks import network_problem
from schemas.operations import KeyScope, UpstreamProtocol
from schemas.overrides import OVERRIDES, Override, OverrideKind
from schemas.pricing.entries import Multiplier, Price, Usd
from schemas.thresholds import PERCENTS_MAX, Percent
from schemas.tokenizers import Tokenizer, TokenizerFile, TokenizerName
from schemas.webhooks import Webhooks

__all__ = [
    "EARLIER_SECRETS_MAX",
    "KINDS",
    "Backend",
    "Budget",
    "BudgetService",
    "EarlierSecret",
    "Entity",
    "EntityId",
    "Key",
    "Kind",
    "Limits",
    "Model",
    "ModelNames",
    "Name",
    "Networks",
    "Organization",
    "OutputLimitField",
    "Project",
    "Quota",
    "Scopes",
    "Target",
    "TimeMs",
    "User",
    "check_networks",
]

Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Tokens: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
Rate: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10**10)]
"""The ledger's buckets are exact far beyond this."""
RequestsPerS: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
EnvName: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^BACKEND_[A-Za-z0-9_]{1,128}_API_KEY\Z", max_length=160)
]
"""A variable of the dispatcher. Any other name would send another secret of its process to a backend."""
BetaName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]
Kind: TypeAlias = (
    Literal["organization", "project", "user", "key", "model", "backend"] | OverrideKind
)
FileName: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z", max_length=128)
]
"""A file in a directory that the process is told. Nothing in it leads out of there."""
Sha256: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
OutputLimitField: TypeAlias = Literal["max_tokens", "max_completion_tokens", "none"]
"""What a model calls the limit of its output; ``none`` where it takes none."""


DefaultTier: TypeAlias = Literal["default", "flex"]
"""What ``service_tier: auto``, and a request that names none, means to whoever states it."""
ModelNames: TypeAlias = Annotated[tuple[EntityId, ...], msgspec.Meta(max_length=1_024)]
Networks: TypeAlias = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], msgspec.Meta(max_length=64)
]
Scopes: TypeAlias = Annotated[tuple[KeyScope, ...], msgspec.Meta(max_length=16)]
_SecretHash: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_PepperName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}\Z")]
EARLIER_SECRETS_MAX: Final = 4


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

    requests_per_s: RequestsPerS | None = None
    burst: Rate | None = None
    tokens_per_min: Rate | None = None
    concurrency: Positive | None = None
    budgets: Annotated[tuple[Budget, ...], msgspec.Meta(max_length=16)] = ()
    quotas: Annotated[tuple[Quota, ...], msgspec.Meta(max_length=16)] = ()
    on_limit: Literal["reject", "defer"] | None = None
    thresholds_percent: (
        Annotated[tuple[Percent, ...], msgspec.Meta(max_length=PERCENTS_MAX)] | None
    ) = None
    """Percentages of its budgets and quotas at which something is told; ``None`` for those of the organization, then of
    the installation."""


class BudgetService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That the external budget service is asked for an organization, and how."""

    while_down: Literal["allow", "deny", "last_known"]
    """What holds while it does not answer: anything is allowed, nothing is, or what it said last of a key."""
    remainder_of: Literal["organization", "key"] = "organization"
    """Whose spend counts against a remainder that it tells. ``organization`` is safe whatever it keeps budgets of;
    ``key`` lets keys that have budgets of their own use them up side by side."""


class Organization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who pays."""

    name: Name | None = None
    limits: Limits = Limits()
    budget_service: BudgetService | None = None
    """Given where an external budget service has a say beside these limits."""
    webhooks: Webhooks | None = None
    """Given where it is told of what happened."""
    service_tier: DefaultTier | None = None
    """The tier of requests that leave it open, where neither their key nor their project says; ``None``: default."""


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of an organization, with limits of its own."""

    org: EntityId
    limits: Limits = Limits()
    service_tier: DefaultTier | None = None
    """The tier of requests that leave it open, where their key does not say; ``None`` for that of the organization."""


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person or service of an organization, with limits of its own."""

    org: EntityId
    limits: Limits = Limits()


class EarlierSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret that a key had before it was rotated, while it still works."""

    hash: _SecretHash
    display: Name
    generation: Positive
    expires_at_ms: TimeMs
    pepper: _PepperName | None = None
    signing: _PepperName | None = None


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An API key; only the HMAC of its secret is kept.

    Raises ``ValueError`` for a network that is none.
    """

    org: EntityId
    hash: _SecretHash
    display: Name
    """First and last characters of the secret, to recognise it by."""
    created_at_ms: TimeMs
    name: Name | None = None
    project: EntityId | None = None
    user: EntityId | None = None
    limits: Limits = Limits()
    models: ModelNames | None = None
    """Models the key may use; ``None`` for all."""
    scopes: Scopes | None = None
    """What the key may do; ``None`` for everything."""
    networks: Networks | None = None
    """Where it may be used from; ``None`` for everywhere."""
    expires_at_ms: TimeMs | None = None
    revoked_at_ms: TimeMs | None = None
    generation: Positive = 1
    """Counts its secrets."""
    earlier: Annotated[tuple[EarlierSecret, ...], msgspec.Meta(max_length=EARLIER_SECRETS_MAX)] = ()
    """Secrets before the present one, which work until their grace ends."""
    pepper: _PepperName | None = None
    """The name of the pepper that the hash was made with; ``None`` where nobody noted it."""
    signing: _PepperName | None = None
    """The name of the pepper that its signing secret is derived with; ``None`` where requests need no signature."""
    service_tier: DefaultTier | None = None
    """The tier of its requests that leave it open; ``None`` for that of its project or organization."""

    def __post_init__(self) -> None:
        """Judge the networks; msgspec tells a ``ValueError`` with the place in the body."""
        check_networks(self.networks)


def check_networks(networks: Networks | None) -> None:
    """Raises ``ValueError`` for a network that is none."""
    for network in networks or ():
        if problem := network_problem(network):
            raise ValueError(f"networks: {problem}")


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One backend of a model's route."""

    backend: EntityId
    weight: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    upstream_model: Annotated[Name, msgspec.Meta(min_length=1)] | None = None
    """The backend's name of the model, where it differs."""
    price_multiplier: Multiplier | None = None
    """What this backend multiplies the price of tokens by, such as 1.1 for a region."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model name clients may ask for: its route and its price."""

    backends: Annotated[tuple[Target, ...], msgspec.Meta(min_length=1, max_length=64)]
    input_usd_per_mtok: Usd | None = None
    output_usd_per_mtok: Usd | None = None
    cached_input_usd_per_mtok: Usd | None = None
    """Price of cached input tokens; the input price when not given."""
    prices: Annotated[tuple[Price, ...], msgspec.Meta(max_length=64)] = ()
    """The price list, where the three above are not all of it, or change at a date; instead of them."""
    default_max_output_tokens: Tokens = 4_096
    """Bound of the output where the client states none."""
    max_output_tokens: Tokens | None = None
    context_window_tokens: Tokens | None = None
    """What input and output together may be; a backend that says it used more is not believed."""
    input_overhead_tokens: Annotated[int, msgspec.Meta(ge=0, le=10**7)] = 0
    """Input that the backend adds to each request, such as instructions of its own; part of the bound."""
    output_limit_field: OutputLimitField | None = None
    """What the limit of the output is called, whatever a client calls it. Not given: as the client calls it, else
    ``max_tokens``, and what a backend's refusal teaches. ``none`` leaves the limit out, the client's too: what is
    held is ``max_output_tokens`` then, or the context window."""
    image_tokens: Tokens | None = None
    """Proved bound of the tokens of one image part, whatever its size and ``detail``; without it images are refused."""
    audio_tokens: Tokens | None = None
    """Proved bound of the tokens of one audio part; without it audio is refused."""
    file_tokens: Tokens | None = None
    """Proved bound of the tokens of one file part, its pages as text and as pictures; without it files are refused."""
    max_tool_calls: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    """Calls of hosted tools, such as web searches, that the backend makes for one choice at most. Without it they
    are treated as ``unknown_fields`` says, because nothing bounds what they cost."""
    tokenizer: TokenizerName | None = None
    """The tokenizer that the model uses. Its exact count bounds texts where a limit counts tokens or USD; without it
    their bytes do."""
    tokenizer_file: FileName | None = None
    """Instead of ``tokenizer``: the model's own ``tokenizer.json``, in the ``TALLYGATE_TOKENIZERS_DIR`` of ingress."""
    tokenizer_sha256: Sha256 | None = None
    """SHA-256 of its content, in hexadecimal. A file with another one is not used."""
    unknown_fields: Literal["auto", "refuse", "pass"] = "auto"
    """What becomes of fields, parts and tools that may change the bill and whose cost nothing bounds. ``auto``:
    refused where a budget and a price apply, else passed to the backend."""

    def __post_init__(self) -> None:
        """Judge what belongs together: without a limit only the model bounds what is made."""
        bounds = (self.max_output_tokens, self.context_window_tokens)
        if self.output_limit_field == "none" and bounds == (None, None):
            what = "needs max_output_tokens or context_window_tokens, which is held then"
            raise ValueError(f"output_limit_field none {what}")
        if (self.tokenizer_file is None) is not (self.tokenizer_sha256 is None):
            raise ValueError("tokenizer_file and tokenizer_sha256 need each other")
        if self.tokenizer is not None and self.tokenizer_file is not None:
            raise ValueError("a model has a tokenizer or a tokenizer_file, not both")

    @property
    def counted_by(self) -> Tokenizer | None:
        """What counts its texts exactly."""
        if self.tokenizer_file is not None and self.tokenizer_sha256 is not None:
            return TokenizerFile(self.tokenizer_file, self.tokenizer_sha256)
        return self.tokenizer


class Backend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server of models. ``url`` is what ``OPENAI_BASE_URL`` would be, or with ``protocol`` anthropic that with ``/v1``
    behind what ``ANTHROPIC_BASE_URL`` would be; to a bare host ``/v1`` is added.

    Raises ``ValueError`` for a url that its caller's HTTP client could not parse.
    """

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s@]+\Z", max_length=URL_CHARS_MAX)]
    api_key_env: EnvName | None = None
    """Environment variable of the dispatcher that holds the backend's key."""
    protocol: UpstreamProtocol = "openai"
    """What it speaks: ``openai`` chat completions and what belongs to them, ``anthropic`` messages."""
    betas: Annotated[tuple[BetaName, ...], msgspec.Meta(max_length=64)] | None = None
    """Names in ``anthropic-beta`` that clients may have from it, all others are left out; ``None`` for those that cost nothing
    beside tokens. What else one costs nothing here bounds."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 120
    """How long an answer that is no stream may take."""
    idle_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] | None = None
    """How long a stream may bring no whole event, the first one included; ``timeout_s`` when not given. Silence is
    limited, not length."""
    total_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 600
    """How long a stream may last, however much it moves."""
    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_024
    stream_options: bool = True
    """Whether it takes ``stream_options``. A stream without it tells no usage, and is estimated."""
    state: Literal["active", "drained"] = "active"

    @property
    def silence_s(self) -> float:
        """How long a stream may be silent."""
        return self.timeout_s if self.idle_timeout_s is None else self.idle_timeout_s

    def __post_init__(self) -> None:
        """Judge the url as a whole; msgspec tells a ``ValueError`` with the place in the body."""
        if problem := url_problem(self.url):
            raise ValueError(problem)


Entity: TypeAlias = Organization | Project | User | Key | Model | Backend | Override

KINDS: Final[dict[Kind, type[Entity]]] = {
    "organization": Organization,
    "project": Project,
    "user": User,
    "key": Key,
    "model": Model,
    "backend": Backend,
    **cast("dict[Kind, type[Entity]]", OVERRIDES),
}

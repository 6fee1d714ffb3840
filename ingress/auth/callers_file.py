"""The callers file: which identity providers are believed and which user-org service is asked, in TOML.

It is read once, when the process starts; a file that is not whole ends the start with what is wrong in it. Secrets
stand in the environment: ``TALLYGATE_USER_ORG_TOKEN`` is what the service knows us by.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from schemas.caller_ids import of_issuer
from schemas.entities import EntityId, ModelNames, Scopes

__all__ = [
    "NOBODY",
    "Algorithm",
    "CallersFile",
    "ClaimPath",
    "Issuer",
    "UserOrgService",
    "address_problem",
    "read_callers_file",
]

_FILE_BYTES_MAX: Final = 1024 * 1024
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

ClaimName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
ClaimPath: TypeAlias = (
    ClaimName | Annotated[tuple[ClaimName, ...], msgspec.Meta(min_length=1, max_length=8)]
)
"""The name of a claim, or the names that lead to one inside others."""
IssuerName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)]
Algorithm: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""With a symmetric one, whoever knows the public key could sign."""
Prefix: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,64}\Z")]


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An identity provider whose tokens are believed, and what they may say. Raises ``ValueError`` where that
    contradicts itself."""

    name: IssuerName
    """Stands in events and usage lines as ``oidc:NAME``."""
    issuer: Text
    """Its issuer, exactly as its tokens and its discovery document say it."""
    audience: Text | Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=16)]
    """Whom its tokens must be for; one of them suffices."""
    algorithms: Annotated[tuple[Algorithm, ...], msgspec.Meta(min_length=1)] = ("RS256", "ES256")
    """How its tokens may be signed."""
    leeway_s: Annotated[int, msgspec.Meta(ge=0, le=60)] = 30
    """How far its clock may be off ours."""
    org: EntityId | None = None
    """The organization of all its users; or:"""
    org_claim: ClaimPath | None = None
    """The claim that says the organization, which must be one of:"""
    orgs: dict[Text, EntityId] | tuple[EntityId, ...] = ()
    """What that claim may say: ids of organizations, or whatever the provider calls them and the id of each."""
    project: EntityId | None = None
    """The project of all its users; or:"""
    project_claim: ClaimPath | None = None
    user_claim: ClaimPath | None = None
    """What the user is called; ``sub`` when not given. Take no claim that users can change themselves."""
    models: ModelNames | None = None
    """Models that are open to its users; all when neither this nor the next is given."""
    models_claim: ClaimPath | None = None
    """The claim that lists them; a token without it opens none."""
    scopes: Scopes | None = None
    """What its users may do, as scopes of keys say it; everything when not given."""
    scope: Text | None = None
    """What ``scope`` or ``scp`` of a token must contain."""
    id_tokens: bool = False
    """Whether ID tokens are taken, too: they say who logged in at a client, not who may call."""
    users: Literal["any", "configured"] = "any"
    """``configured`` refuses users who have no entry; without one a user has no limits of its own."""
    user_org: bool = False
    """Whether the user-org service says organization, project and models of its users, in place of claims."""
    ca_file: Path | None = None
    """Certificates that its server's is judged by; those of the system when not given."""

    def __post_init__(self) -> None:
        """Judge what belongs together; msgspec tells a ``ValueError`` with its place in the file."""
        _check_url("issuer", self.issuer)
        told = [self.org is not None, self.org_claim is not None, self.user_org]
        if told.count(True) != 1:
            raise ValueError("give one of org, org_claim and user_org")
        theirs = (self.project, self.project_claim, self.user_claim, self.models, self.models_claim)
        if self.user_org and any(each is not None for each in theirs):
            raise ValueError("the user-org service says project, user and models; give none here")
        if (self.org_claim is not None) is not bool(self.orgs):
            raise ValueError("org_claim and orgs need each other")
        if self.project is not None and self.project_claim is not None:
            raise ValueError("give project or project_claim, not both")
        if self.models is not None and self.models_claim is not None:
            raise ValueError("give models or models_claim, not both")

    @property
    def key_id(self) -> str:
        """What stands for the API key in events."""
        return of_issuer(self.name)

    @property
    def audiences(self) -> tuple[str, ...]:
        """Whom its tokens must be for."""
        return (self.audience,) if isinstance(self.audience, str) else self.audience

    def org_of(self, said: str) -> str | None:
        """The organization that its claim means; ``None`` for one that it may not speak for."""
        if isinstance(self.orgs, Mapping):
            return self.orgs.get(said)
        return said if said in self.orgs else None


class UserOrgService(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The service that says who belongs where, and how it is asked. Times in seconds."""

    url: Text
    """Its address; ``/v1/caller`` is added."""
    orgs: Annotated[tuple[EntityId, ...], msgspec.Meta(min_length=1)] | None = None
    """Organizations that it may speak for; all that are configured when not given."""
    credentials: bool = True
    """Whether it is asked about credentials that nobody else here knows."""
    credential_prefixes: tuple[Prefix, ...] = ()
    """How such credentials begin; it is not asked about others. Any when empty."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=10)] = 2.0
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    """Questions that may be under way at once about those whom nobody knows yet, and as many about those who are known."""
    fresh_s: Annotated[float, msgspec.Meta(ge=1, le=300)] = 30.0
    """How long an answer is taken without asking again."""
    unknown_s: Annotated[float, msgspec.Meta(ge=1, le=300)] = 10.0
    """How long it is not asked again about somebody whom it does not know."""
    stale_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 600.0
    """How long after that an answer is taken while the service cannot be asked; then callers get 503."""
    entries_max: Annotated[int, msgspec.Meta(ge=16, le=1_000_000)] = 20_000
    """Answers that are remembered: so many callers who are known, and so many who are not."""
    ca_file: Path | None = None
    """Certificates that its server's is judged by; those of the system when not given."""

    def __post_init__(self) -> None:
        """Judge the address."""
        _check_url("url", self.url)


class CallersFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who says whom callers are, beside API keys."""

    oidc: tuple[Issuer, ...] = ()
    user_org: UserOrgService | None = None

    def __post_init__(self) -> None:
        """Judge what belongs together."""
        for what, named in (
            ("name", [i.name for i in self.oidc]),
            ("issuer", [i.issuer for i in self.oidc]),
        ):
            if len(set(named)) != len(named):
                raise ValueError(f"two tables of oidc have the same {what}")
        if self.user_org is None and any(issuer.user_org for issuer in self.oidc):
            raise ValueError("an issuer asks the user-org service, which has no table user_org")


NOBODY: Final = CallersFile()


def read_callers_file(path: str) -> CallersFile:
    """The file, or an empty one where no path is given. Raises ``ValueError`` with all that is known of the fault."""
    if not path:
        return NOBODY
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _FILE_BYTES_MAX:
        raise ValueError(f"{path} has more than {_FILE_BYTES_MAX} bytes")
    try:
        return msgspec.toml.decode(content, type=CallersFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def address_problem(url: str) -> str | None:
    """Why an address cannot be asked; ``None`` when it can. Plain HTTP stays on this machine."""
    if not (url.isascii() and url.isprintable()) or " " in url:
        return "must be in ASCII, without spaces"
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return "is no address"
    if parts.scheme not in {"https", "http"} or not host or parts.username is not None:
        return "must be an https:// address without a password"
    if parts.query or parts.fragment:
        return "must have no query"
    if parts.scheme == "http" and host not in _LOOPBACK:
        return "must be https://, except on this machine"
    return None


def _check_url(field: str, url: str) -> None:
    problem = address_problem(url)
    if problem is not None:
        raise ValueError(f"{field} {problem}")

"""Judges the claims of a token whose signature holds: for whom, by whom, how long, and whom they name. Pure.

Time is the ledger's, in Unix seconds. What an issuer may say is bounded by its configuration: an organization that is
not listed for it cannot be named by it. Sources: RFC 7519 section 4, RFC 9068 section 4, OpenID Connect Core section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import msgspec

from ingress.auth.callers_file import ClaimPath, Issuer
from ingress.auth.identity import Identity, user_id_of
from ingress.auth.oidc.token import Token
from schemas.entities import EntityId, ModelNames

__all__ = ["Believed", "Disbelieved", "Forbidden", "judge"]

_SUBJECT_CHARS_MAX: Final = 1_024
_LIFE_S_MAX: Final = 2**40
"""Whoever says a larger time means milliseconds, or nothing."""


class Believed(msgspec.Struct, frozen=True):
    """A token that says whom it was made for, until when."""

    identity: Identity | None
    """``None`` where the user-org service is to say it."""
    subject: str
    ends_at_s: float


class Disbelieved(msgspec.Struct, frozen=True):
    """A token that proves nothing, and why: 401."""

    why: str


class Forbidden(msgspec.Struct, frozen=True):
    """A token that proves who calls, but not that they may: 403."""

    why: str


def judge(token: Token, issuer: Issuer, now_s: float) -> Believed | Disbelieved | Forbidden:
    """What a correctly signed token of the issuer is worth at ``now_s``."""
    claims = token.claims
    why = _audience_problem(claims, issuer) or _time_problem(claims, issuer, now_s)
    if why is None and not issuer.id_tokens and not token.is_access and _is_id_token(claims):
        why = "it is an ID token, which says who logged in and not who may call"
    subject = claims.get("sub")
    if why is None and not (isinstance(subject, str) and 0 < len(subject) <= _SUBJECT_CHARS_MAX):
        why = "it has no subject"
    if why is not None:
        return Disbelieved(why)
    assert isinstance(subject, str)
    if issuer.scope is not None and issuer.scope not in _words(claims, ("scope",), ("scp",)):
        return Forbidden(f"The token lacks the scope {issuer.scope!r}.")
    ends_at_s = claims["exp"] + issuer.leeway_s
    if issuer.user_org:
        return Believed(None, subject, ends_at_s)
    identity = _identity(claims, subject, issuer)
    return identity if isinstance(identity, Forbidden) else Believed(identity, subject, ends_at_s)


def _audience_problem(claims: Mapping[str, Any], issuer: Issuer) -> str | None:
    if claims.get("iss") != issuer.issuer:
        return "it is of another issuer"
    said = claims.get("aud")
    audiences = said if isinstance(said, list) else [said]
    return None if any(each in issuer.audiences for each in audiences) else "it is for others"


def _time_problem(claims: Mapping[str, Any], issuer: Issuer, now_s: float) -> str | None:
    exp: Any = claims.get("exp")
    nbf, iat = claims.get("nbf", 0), claims.get("iat", 0)
    if not _is_time(exp):
        return "it does not say when it ends"
    if not _is_time(nbf) or not _is_time(iat):
        return "its times cannot be read"
    if exp + issuer.leeway_s <= now_s:
        return "it has expired"
    if nbf - issuer.leeway_s > now_s:
        return "it is not valid yet"
    if iat - issuer.leeway_s > now_s or iat > exp:
        return "it was issued in the future"
    return None


def _is_time(said: Any) -> TypeGuard[float]:
    return isinstance(said, int | float) and not isinstance(said, bool) and 0 <= said < _LIFE_S_MAX


def _is_id_token(claims: Mapping[str, Any]) -> bool:
    """Whether it has what only ID tokens have; one without any of it cannot be told from an access token."""
    return claims.get("typ") == "ID" or any(
        name in claims for name in ("nonce", "at_hash", "c_hash")
    )


def _identity(claims: Mapping[str, Any], subject: str, issuer: Issuer) -> Identity | Forbidden:
    org = issuer.org
    if org is None:
        assert issuer.org_claim is not None, "the file was judged"
        named = _claim(claims, issuer.org_claim)
        org = issuer.org_of(named) if isinstance(named, str) else None
        if org is None:
            return Forbidden("The token names no organization that its issuer may speak for.")
    project = issuer.project
    if issuer.project_claim is not None:
        project = _claim(claims, issuer.project_claim)
        if not _fits(project, EntityId):
            return Forbidden("The token names no project.")
    user = subject if issuer.user_claim is None else _claim(claims, issuer.user_claim)
    if not (isinstance(user, str) and 0 < len(user) <= _SUBJECT_CHARS_MAX):
        return Forbidden("The token names no user.")
    models = issuer.models
    if issuer.models_claim is not None:
        models = tuple(_words(claims, issuer.models_claim))
        if not _fits(models, ModelNames):
            return Forbidden("The models that the token names cannot be read.")
    needs_user = issuer.users == "configured"
    named = user_id_of(user)
    return Identity(issuer.key_id, org, project, named, models, needs_user, issuer.scopes)


def _claim(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """A claim, or what stands below it; ``None`` where there is none."""
    found: Any = claims
    for name in (path,) if isinstance(path, str) else path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _words(claims: Mapping[str, Any], *paths: ClaimPath) -> list[str]:
    """The words of claims that are lists, or texts with spaces between them; other values say nothing."""
    words: list[str] = []
    for path in paths:
        found = _claim(claims, path)
        listed = found.split() if isinstance(found, str) else found
        words += (
            [each for each in listed or () if isinstance(each, str)]
            if isinstance(listed, list)
            else []
        )
    return words


def _fits(value: Any, wanted: Any) -> bool:
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return False
    return True

"""Tells callers from signed tokens of identity providers (JWT), under the keys that these publish (OIDC).

A token is judged where it has the shape of one; everything else is left to others. What is wrong with it is told, since
its sender must mend it: 401 ``invalid_token`` where it proves nothing, 403 where it proves who calls and that is not
enough, 503 while nobody can judge it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ingress.auth.caller import Caller, Verdict
from ingress.auth.callers_file import Issuer
from ingress.auth.identity import placed
from ingress.auth.oidc.claims import Believed, Disbelieved, Forbidden, judge
from ingress.auth.oidc.issuer_keys import IssuerKeys
from ingress.auth.oidc.key_set import KeySet, SigningKey, is_signed_by
from ingress.auth.oidc.token import Token, is_token, read_token
from ingress.auth.oidc.verdicts import Verdicts, digest_of
from ingress.auth.user_org.directory import Directory
from ingress.http.refusals import Refusal
from ingress.http.request import Credentials
from schemas.config_state import Snapshot
from schemas.errors import ErrorCode
from schemas.runtime.process.telemetry import Metrics

__all__ = ["IssuerTokens", "Tokens"]

_AWAY: Final = Refusal(
    ErrorCode.SERVICE_UNAVAILABLE,
    "Tokens of this issuer cannot be judged now: its keys could not be read.",
)


@dataclass(slots=True)
class IssuerTokens:
    """The tokens of one issuer, and what is remembered of them."""

    issuer: Issuer
    keys: IssuerKeys
    directory: Directory | None = None
    """The user-org service, where it says whose the issuer's users are."""
    verdicts: Verdicts = field(default_factory=Verdicts)


class Tokens:
    """An authenticator: asks for keys only where a token names one that is unknown."""

    def __init__(self, issuers: Sequence[IssuerTokens], metrics: Metrics) -> None:
        self._issuers = {each.issuer.issuer: each for each in issuers}
        self._metrics = metrics

    async def tell(self, credentials: Credentials, snapshot: Snapshot, now_ms: int) -> Verdict:
        """The caller whom a token names; ``None`` for what has not the shape of a token."""
        text = credentials.secret
        if not is_token(text):
            return None
        token = read_token(text)
        if isinstance(token, str):
            return _disbelieved(token)
        said = token.claims.get("iss")
        issuer = self._issuers.get(said) if isinstance(said, str) else None
        if issuer is None:
            return _disbelieved("its issuer is not believed here")
        believed = await self._believed(issuer, token, text, now_ms / 1_000)
        told = (
            believed if isinstance(believed, Refusal) else await _told(issuer, believed, snapshot)
        )
        verdict = "believed" if not isinstance(told, Refusal) else told.code.value
        self._metrics.count("tallygate_tokens_judged_total", issuer.issuer.key_id, verdict)
        return told

    async def _believed(
        self, issuer: IssuerTokens, token: Token, text: str, now_s: float
    ) -> Believed | Refusal:
        digest, keys = digest_of(text), issuer.keys.current
        known = None if keys is None else issuer.verdicts.find(digest, keys, now_s)
        if known is not None:
            return known
        if token.alg not in issuer.issuer.algorithms:
            return _disbelieved("its algorithm is not allowed")
        refusal = await _unsigned(issuer.keys, token, text)
        if refusal is not None:
            return refusal
        judged = judge(token, issuer.issuer, now_s)
        if isinstance(judged, Disbelieved):
            return _disbelieved(judged.why)
        if isinstance(judged, Forbidden):
            return Refusal(ErrorCode.CALLER_NOT_ALLOWED, judged.why)
        _note(issuer, digest, judged, now_s)
        return judged


async def _unsigned(keys: IssuerKeys, token: Token, text: str) -> Refusal | None:
    """Why nobody can say that the issuer signed the token; ``None`` where it did."""
    candidates = await keys.candidates(token.kid, token.alg)
    if candidates is None:
        return _AWAY
    if _is_signed(text, candidates):
        return None
    if token.kid is not None:
        return _disbelieved("its signature is wrong" if candidates else "its key is unknown")
    # A provider that names no keys may have a new one.
    candidates = await keys.newer_candidates(token.alg)
    return None if _is_signed(text, candidates) else _disbelieved("its signature is wrong")


def _is_signed(text: str, candidates: Sequence[SigningKey]) -> bool:
    return any(is_signed_by(text, key) for key in candidates)


def _note(issuer: IssuerTokens, digest: bytes, believed: Believed, now_s: float) -> None:
    keys: KeySet | None = issuer.keys.current
    if keys is not None:
        issuer.verdicts.find(digest, keys, now_s)
        issuer.verdicts.note(digest, keys, believed)


async def _told(issuer: IssuerTokens, believed: Believed, snapshot: Snapshot) -> Caller | Refusal:
    if believed.identity is not None:
        return placed(believed.identity, snapshot)
    assert issuer.directory is not None, "the file was judged"
    named = issuer.issuer
    identity = await issuer.directory.subject(believed.subject, named)
    return identity if isinstance(identity, Refusal) else placed(identity, snapshot)


def _disbelieved(why: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_TOKEN, f"The token is not valid: {why}.")

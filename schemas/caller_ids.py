"""Ids of callers without an API key: what stands in its place in events, usage lines and audits. Pure.

No entity is behind such an id, so it bears no limits and cannot be revoked; whoever vouched for the caller ends that.
"""

from __future__ import annotations

from typing import Final

__all__ = ["USER_ORG", "is_vouched_for", "of_issuer", "of_user_org"]

USER_ORG: Final = "user-org"
_ISSUER: Final = "oidc:"
_VOUCHED_FOR: Final = (_ISSUER, USER_ORG)


def of_issuer(name: str) -> str:
    """The id of all callers for whom an identity provider vouches."""
    return f"{_ISSUER}{name}"


def of_user_org(key: str | None) -> str:
    """The id of a caller whose credential the user-org service knows, and calls ``key``."""
    return USER_ORG if key is None else f"{USER_ORG}:{key}"


def is_vouched_for(key_id: str) -> bool:
    """Whether somebody outside vouched for the caller, so that neither its key nor its user need be configured."""
    return key_id.startswith(_VOUCHED_FOR)

"""Whether this process knows what a request names: nothing is admitted without its limits. Pure.

Ingress may be ahead by a few entries of the config log, and an entry may have been refused here. Both
close the request here until the configuration is whole; what was deleted is final.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from schemas.caller_ids import is_vouched_for
from schemas.config_state import Snapshot
from schemas.events import RequestAccepted

Standing: TypeAlias = Literal["known", "not_yet", "closed", "gone", "revoked"]
"""``closed``: an entry of it was refused here; ``gone``: its organization or model was deleted, and
``revoked``: its key was; both are final."""


def standing_of(request: RequestAccepted, config: Snapshot) -> Standing:
    """How the request stands under the configuration in force here."""
    if request.config_offset > config.offset:
        return "not_yet"
    named = request.org, request.project, request.key_id, request.user, request.model
    if config.closes(*named):
        return "closed"
    missing = [(kind, name) for kind, name, known in _named(request, config) if name not in known]
    return _standing_without(missing, config) if missing else "known"


def _standing_without(missing: Sequence[tuple[str, str]], config: Snapshot) -> Standing:
    """What is missing was deleted, or never came, or hangs on something that is missing."""
    dangling = {problem.where for problem in config.problems}
    deleted = [who for who in missing if who in config.versions and "/".join(who) not in dangling]
    kinds = {kind for kind, _ in deleted}
    if kinds & {"organization", "model"}:
        return "gone"
    if "key" in kinds:
        return "revoked"
    # A project or user that was deleted limits nothing any more.
    return "known" if len(deleted) == len(missing) else "not_yet"


def _named(
    request: RequestAccepted, config: Snapshot
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every entity that bears a limit or a price of the request, and those of its kind."""
    yield "organization", request.org, config.organizations
    yield "model", request.model, config.models
    if request.project is not None:
        yield "project", request.project, config.projects
    if is_vouched_for(request.key_id):
        return  # Its user bears limits only where it is configured, which ingress saw at an offset that is here.
    yield "key", request.key_id, config.keys
    if request.user is not None:
        yield "user", request.user, config.users

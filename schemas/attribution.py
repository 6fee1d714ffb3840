"""The attribution of spending: whose request it was, named alike by every outcome, correction and usage line. Pure."""

from __future__ import annotations

from typing import Protocol, TypedDict

__all__ = ["Attributed", "Attribution", "FoundBy", "attribution_of", "found_by"]


class Attribution(TypedDict):
    """Fields that an event has from the request it is about."""

    request_id: str
    org: str
    project: str | None
    key_id: str
    user: str | None
    route: str
    """Name of the operation."""
    model: str
    batch_id: str | None
    batch_line: int | None


class Attributed(Protocol):
    """A request, or an event that is about one."""

    @property
    def request_id(self) -> str: ...  # noqa: D102
    @property
    def org(self) -> str: ...  # noqa: D102
    @property
    def project(self) -> str | None: ...  # noqa: D102
    @property
    def key_id(self) -> str: ...  # noqa: D102
    @property
    def user(self) -> str | None: ...  # noqa: D102
    @property
    def route(self) -> str: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def batch_id(self) -> str | None: ...  # noqa: D102
    @property
    def batch_line(self) -> int | None: ...  # noqa: D102


class FoundBy(TypedDict):
    """Fields that an outcome has from its request, so that who looks for it later finds it when the ledger is
    made anew."""

    idempotency_hash: str | None
    fingerprint: str | None
    job: str | None


class Findable(Protocol):
    """A request, or what the ledger keeps of one."""

    @property
    def idempotency_hash(self) -> str | None: ...
    @property
    def fingerprint(self) -> str | None: ...
    @property
    def job(self) -> str | None: ...


def attribution_of(about: Attributed) -> Attribution:
    """What an event that follows from ``about`` says of its request."""
    return Attribution(
        request_id=about.request_id,
        org=about.org,
        project=about.project,
        key_id=about.key_id,
        user=about.user,
        route=about.route,
        model=about.model,
        batch_id=about.batch_id,
        batch_line=about.batch_line,
    )


def found_by(about: Findable) -> FoundBy:
    """What the outcome of ``about`` is found by: an idempotency key, or as a job."""
    return FoundBy(
        idempotency_hash=about.idempotency_hash, fingerprint=about.fingerprint, job=about.job
    )

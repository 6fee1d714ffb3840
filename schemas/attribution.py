"""The attribution of spending: whose request it was, named alike by every outcome, correction and usage line. Pure."""

from __future__ import annotations

from typing import Protocol, TypedDict

__all__ = ["Attributed", "Attribution", "attribution_of"]


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
    )

"""Routes and surfaces of paths, which follow from the table of operations."""

from __future__ import annotations

import pytest

from ingress.http.paths import events_path, job_path, place_of, request_path, surface_of
from schemas.operations import OPERATIONS


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_path_of_an_operation_is_that_of_its_row(name: str) -> None:
    """Its name in metrics and its form of errors, with a query or without."""
    row = OPERATIONS[name]

    assert place_of(row.path).operation == row.name
    assert surface_of(row.path) == surface_of(f"{row.path}?limit=3") == row.surface


@pytest.mark.parametrize(
    ("path", "route", "surface"),
    [
        ("/v1/models", "models", "openai"),
        ("/v1/models/meta/llama-3", "models", "openai"),
        ("/v1/messages/count_tokens", "count_tokens", "anthropic"),
        ("/v1/messages/batches", "messages", "anthropic"),
        (job_path("018bcfe5"), "jobs", "native"),
        (request_path("018bcfe5"), "requests", "native"),
        (events_path("018bcfe5"), "requests", "native"),
        ("/v1/status/readyz", "status", "native"),
        ("/v1/status/nothing", "other", "native"),
        ("/metrics", "metrics", "openai"),
        ("/v1/nothing", "other", "openai"),
        ("/" * 10_000, "other", "openai"),
        ("", "other", "openai"),
    ],
)
def test_other_paths_have_their_own_entries(path: str, route: str, surface: str) -> None:
    """What stands below a path belongs to it; what nobody knows is told as to OpenAI's clients."""
    assert (place_of(path).operation, surface_of(path)) == (route, surface)

"""The API for whoever wants to read of it: where its document and its page stand, on every port that serves HTTP. Pure."""

from __future__ import annotations

from typing import Final

OPENAPI: Final = "/openapi.json"
"""OpenAPI 3.1 of all public and admin routes."""
API_PAGE: Final = "/docs"
"""The same for people; it asks nothing of any other host."""
API_PATHS: Final = frozenset({OPENAPI, API_PAGE})

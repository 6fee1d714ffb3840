"""The API for whoever wants to read of it: where its document and its page stand, on every port that serves HTTP. Pure."""

from __future__ import annotations

from typing import Final

OPENAPI: Final = "/openapi.json"
"""OpenAPI 3.1 of all public and admin routes."""
API_PAGE: Final = "/docs"
"""The same for people; it asks nothing of any other host."""
LLMS: Final = "/llms.txt"
"""What there is to read, for language models (llmstxt.org)."""
LLMS_FULL: Final = "/llms-full.txt"
"""All of it that a client needs, as Markdown."""
API_PATHS: Final = frozenset({OPENAPI, API_PAGE, LLMS, LLMS_FULL})

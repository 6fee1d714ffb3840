"""Names of OpenTelemetry's semantic conventions for generative AI, as far as the gateway has what they mean. Pure.

The conventions are in development: the version is pinned, and a rename of theirs is a change here. Metrics of the server
side are those of 1.41; the counters of tokens are those that replaced ``gen_ai.client.token.usage`` in the conventions'
own repository. A dot becomes an underscore and a unit a suffix, as OpenTelemetry's exporter for Prometheus writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from schemas.operations import OPERATIONS

__all__ = ["LABELS", "OPERATION_NAMES", "PROVIDER", "SEMCONV_VERSION", "SERVER"]

SEMCONV_VERSION: Final = "1.41.0"
LABELS: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
SERVER: Final = "tallygate"
"""The ``gen_ai.provider.name`` of what the gateway itself serves."""
PROVIDER: Final = "openai"
"""That of what it asks of backends: the conventions name it by the protocol where nothing better is known."""
OPERATION_NAMES: Final[Mapping[str, str]] = {
    name: {"completions": "text_completion", "embeddings": "embeddings"}.get(name, "chat")
    for name in OPERATIONS
}
"""The ``gen_ai.operation.name`` of each operation."""

"""Names in spans, as OpenTelemetry's semantic conventions have them, and ours where they have none. Pure.

HTTP's are stable (1.44); those of messaging and of generative AI are in development, so that the version is pinned and a
rename of theirs is a change here. Whatever is ours begins with ``tallygate.``.
"""

from __future__ import annotations

from typing import Final

from schemas.gen_ai import SEMCONV_VERSION

SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{SEMCONV_VERSION}"

REQUEST_ID: Final = "tallygate.request_id"
ORG: Final = "tallygate.org"
ERROR_TYPE: Final = "error.type"

HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_PARTITION: Final = "messaging.destination.partition.id"
MESSAGING_GROUP: Final = "messaging.consumer.group.name"
MESSAGING_OFFSET: Final = "messaging.kafka.offset"

DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"
DB_PROCEDURE: Final = "db.stored_procedure.name"

GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"

ATTEMPT: Final = "tallygate.attempt"
ATTEMPT_STATUS: Final = "tallygate.attempt.status"
BACKEND: Final = "tallygate.backend"
COST_NANO_USD: Final = "tallygate.cost_nano_usd"
FIRST_CONTENT_MS: Final = "tallygate.first_content_ms"
ESTIMATED: Final = "tallygate.usage.estimated"
CODE: Final = "tallygate.error_code"
CLIENT_GONE: Final = "tallygate.client_gone"

"""The admin routes: what each takes and answers, by the method and path of its row in the table of roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from deploy.reference.openapi.contract import (
    Answer,
    Parameter,
    RouteContract,
    header,
    in_path,
    query,
)
from deploy.reference.openapi.shown_entities import LISTS, OVERRIDE_BODIES, SHOWN
from ingress.admin.config.api_keys import KeyFields, NewKey, Rotation
from ingress.admin.config.config_routes import AdoptedAnswer, Adoption, SignedAnswer, Signing
from ingress.admin.config.entities import KIND_OF_PATH
from ingress.admin.config.entity_routes import WrittenAnswer
from ingress.admin.config.key_routes import KeyRevoked, KeySecret
from ingress.admin.config.override_routes import OverridesAnswer, OverrideWritten
from ingress.admin.finance.ledger_routes import BooksAnswer
from ingress.admin.finance.reconciliation import Reconciliation
from ingress.admin.finance.shard_routes import Rebuild, RebuildAsked, ShardsAnswer
from ingress.admin.finance.usage_routes import UsageAnswer
from ingress.admin.finance.verification import Verification
from ingress.admin.fleet.lag_routes import LagAnswer
from ingress.admin.fleet.route_explanation import RouteExplanation
from ingress.admin.fleet.status_routes import StatusAnswer
from ingress.admin.log.audit_routes import AuditAnswer
from ingress.admin.log.dead_letter_routes import DeadLettersAnswer, Retry, RetryAnswer
from ingress.admin.log.dead_letters import LetterDetail
from ingress.admin.log.request_routes import Timeline
from ingress.admin.log.scan_routes import ScansAnswer
from ingress.admin.log.webhook_routes import (
    SPAN_S_MAX,
    RedeliveredAnswer,
    Redelivery,
    SecretsOf,
    WebhooksAnswer,
    WebhookSecretsAnswer,
)
from ingress.admin.route_roles import ROUTE_ROLES, RouteRoles
from schemas.entities import KINDS
from schemas.errors import ErrorCode
from schemas.overrides import OVERRIDES

ADMIN_PREFIX: Final = "/admin/v1"
_READ: Final = frozenset(
    {
        ErrorCode.INVALID_REQUEST,
        ErrorCode.KEY_NOT_ALLOWED,
        ErrorCode.CERTIFICATE_UNKNOWN,
        ErrorCode.ROLE_NOT_ALLOWED,
        ErrorCode.SERVICE_UNAVAILABLE,
        ErrorCode.INTERNAL_ERROR,
    }
)
_FOUND: Final = frozenset({ErrorCode.NOT_FOUND})
_WRITE: Final = frozenset(
    {
        ErrorCode.VERSION_CONFLICT,
        ErrorCode.REFERENCE_CONFLICT,
        ErrorCode.INVALID_JSON,
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        ErrorCode.BODY_TOO_LARGE,
        ErrorCode.BODY_TOO_SLOW,
    }
)
_ORG: Final = query("org", "Of this organization only.")
_SINCE: Final = query("from", "Begin of the time, RFC 3339; inclusive.")
_UNTIL: Final = query("to", "End of the time, RFC 3339; exclusive.")
_TEXTS: Final = query("payload", "Whether texts are shown.", type="boolean", default=False)
_IF_MATCH: Final = header("If-Match", "Only at this version; 0: only where there is none.")


@dataclass(frozen=True, slots=True)
class _Told:
    """What a row of the table of roles does not say."""

    summary: str
    shape: Any
    more: frozenset[ErrorCode] = frozenset()
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    is_body_required: bool = True
    others: Mapping[int, Answer] = field(default_factory=dict)


_CREATED: Final = {201: Answer("The key, and its secret, told once.", KeySecret)}
_TOLD: Final = {
    ("GET", "/status"): _Told("Which processes live, and the configuration.", StatusAnswer),
    ("GET", "/lag"): _Told("How far the workers are behind.", LagAnswer),
    ("GET", "/scans"): _Told("Which long readings are under way.", ScansAnswer),
    ("GET", "/audit"): _Told(
        "Refusals, deferrals and administrative writes, newest first.",
        AuditAnswer,
        parameters=(
            _ORG,
            query("request_id", "About this request only."),
            _SINCE,
            _UNTIL,
            query("limit", "How many.", type="integer", minimum=1, maximum=1_000, default=100),
        ),
    ),
    ("GET", "/requests/{id}"): _Told(
        "Why a request ended as it did, by its own records.", Timeline, _FOUND, (_ORG, _TEXTS)
    ),
    ("GET", "/dlq"): _Told(
        "Dead letters by topic: how many, and the newest.",
        DeadLettersAnswer,
        parameters=(
            query("limit", "How many of each.", type="integer", minimum=1, maximum=100, default=10),
        ),
    ),
    ("GET", "/dlq/{id}"): _Told("One dead letter.", LetterDetail, _FOUND, (_TEXTS,)),
    ("POST", "/dlq/{id}/retry"): _Told(
        "Append the original record to its topic again.", RetryAnswer, _FOUND, body=Retry
    ),
    ("GET", "/webhooks"): _Told(
        "What became of messages of webhooks, the newest first.",
        WebhooksAnswer,
        parameters=(
            _ORG,
            query("state", "Of this state only: delivered, waiting or given_up."),
            query(
                "since_s", "What happened in so many seconds up to now.",
                type="integer", minimum=1, maximum=SPAN_S_MAX, default=86_400,
            ),
            query("limit", "How many.", type="integer", minimum=1, maximum=1_000, default=100),
        ),
    ),
    ("POST", "/webhooks/redeliver"): _Told(
        "Deliver messages of an organization anew.", RedeliveredAnswer, _FOUND, body=Redelivery
    ),
    ("POST", "/webhooks/secrets"): _Told(
        "The secrets that sign for an organization.", WebhookSecretsAnswer, _FOUND, body=SecretsOf
    ),
    ("GET", "/usage"): _Told(
        "What was booked, by the dimensions that are asked for.",
        UsageAnswer,
        parameters=(
            _SINCE,
            _UNTIL,
            query("by", "Dimensions, separated by commas: org, key, user, model, backend, hour."),
            _ORG,
        ),
    ),
    ("GET", "/reconcile"): _Told(
        "What does not fit between log, usage lines and ledger.",
        Reconciliation,
        parameters=(_SINCE, _UNTIL),
    ),
    ("GET", "/ledger/verify"): _Told(
        "Whether ledger and log agree.",
        Verification,
        parameters=(
            query("deadline_s", "How long accounting may catch up.", type="number", minimum=0, maximum=600, default=15),
            query("full", "Whether everything is read anew.", type="boolean", default=False),
        ),
    ),
    ("GET", "/ledger/books"): _Told("What the last verification said.", BooksAnswer),
    ("GET", "/ledger/shards"): _Told("The state of every shard of the ledger.", ShardsAnswer),
    ("POST", "/ledger/rebuild"): _Told(
        "Have one shard or all made again from the log.", RebuildAsked, body=Rebuild
    ),
    ("POST", "/config/adopt"): _Told(
        "Accept a log that ends below what was in force.", AdoptedAnswer, body=Adoption
    ),
    ("POST", "/config/sign"): _Told(
        "Write again, signed, all that is in force.", SignedAnswer, body=Signing
    ),
    ("GET", "/routes/{id:path}"): _Told(
        "What a request for the model would do now, and why.",
        RouteExplanation,
        _FOUND,
        (_ORG, query("key", "For this key.")),
    ),
    ("GET", "/overrides"): _Told("All overrides that nobody restored.", OverridesAnswer),
    ("PUT", "/overrides/{kind}/{id:path}"): _Told(
        "Put an override in force.", OverrideWritten, _FOUND, (_IF_MATCH,), OVERRIDE_BODIES
    ),
    ("DELETE", "/overrides/{kind}/{id:path}"): _Told(
        "End an override.", OverrideWritten, _FOUND, (_IF_MATCH,)
    ),
    ("POST", "/backends/{id:path}/drain"): _Told(
        "Take a backend out of use.",
        OverrideWritten,
        _FOUND,
        (_IF_MATCH,),
        OVERRIDE_BODIES[list(OVERRIDES).index("drain")],
        is_body_required=False,
    ),
    ("POST", "/backends/{id:path}/restore"): _Told(
        "Use a backend again.", OverrideWritten, _FOUND, (_IF_MATCH,)
    ),
    ("POST", "/keys"): _Told("Make a key.", KeySecret, body=NewKey, others=_CREATED),
    ("POST", "/keys/{id}/revoke"): _Told("End a key.", KeyRevoked, _FOUND),
    ("POST", "/keys/{id}/rotate"): _Told(
        "Give a key another secret.", KeySecret, _FOUND, body=Rotation
    ),
}  # fmt: skip


def _of_entities() -> Iterator[tuple[tuple[str, str], _Told]]:
    for path, kind in KIND_OF_PATH.items():
        one = f"/{path}/{{id:path}}"
        body = KeyFields if kind == "key" else KINDS[kind]
        yield ("GET", f"/{path}"), _Told(f"All entities of the kind {kind}.", LISTS[kind])
        yield ("GET", one), _Told(f"One entity of the kind {kind}.", SHOWN[kind], _FOUND)
        yield (
            ("PUT", one),
            _Told(
                f"Create or replace a {kind}." if kind != "key" else "Change the fields of a key.",
                WrittenAnswer,
                _FOUND,
                (_IF_MATCH,),
                body,
            ),
        )
        yield ("DELETE", one), _Told(f"Delete a {kind}.", WrittenAnswer, _FOUND, (_IF_MATCH,))


TOLD: Final = {**_TOLD, **dict(_of_entities())}
"""Method and path, as the table of roles has them, to what is told of the route."""


def admin_routes() -> Iterator[RouteContract]:
    """All of them. Raises ``KeyError`` for a row that nothing is told of."""
    for row in ROUTE_ROLES:
        yield _route(row, TOLD[row.method, row.path])


def _route(row: RouteRoles, told: _Told) -> RouteContract:
    path = row.path.replace(":path}", "}")
    words = [part for part in path.replace("{", "").replace("}", "").split("/") if part]
    roles = ", ".join(sorted(row.roles))
    texts = "" if row.with_texts is None else f" With texts: {', '.join(sorted(row.with_texts))}."
    return RouteContract(
        name=".".join(["admin", row.method.lower(), *words]),
        surface="admin",
        method=row.method,
        path=ADMIN_PREFIX + path,
        summary=f"{told.summary} Roles: {roles}.{texts}",
        answers={200: Answer("Done, as the body says.", told.shape), **told.others},
        errors=_READ | told.more | (_WRITE if row.method != "GET" else frozenset()),
        parameters=(*_path_parameters(path), *told.parameters),
        body=told.body,
        is_body_required=told.is_body_required,
    )


def _path_parameters(path: str) -> Iterator[Parameter]:
    if "{kind}" in path:
        yield in_path("kind", "The kind of override.", type="string", enum=list(OVERRIDES))
    if "{id}" in path:
        yield in_path("id", "An id; that of a model or backend may contain slashes.")

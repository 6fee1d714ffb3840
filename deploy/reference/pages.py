"""The generated pages of ``docs/reference``: each is one list of the code, made readable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any, Final

from pydantic_settings import BaseSettings

from deploy.embedded.environment import SETTINGS
from deploy.reference.admin_roles_page import admin_roles_page
from deploy.reference.budget_service_page import budget_service_page
from deploy.reference.command_page import command_page
from deploy.reference.field_docs import field_docs, own_fields
from deploy.reference.kafka_users_page import kafka_users_page
from deploy.reference.llms_pages import llms_full, llms_served
from deploy.reference.markdown import code, duration, page, prose, size, table
from deploy.reference.openapi.document import openapi_json, openapi_page
from deploy.reference.openapi.page import html_page
from deploy.reference.setting_rows import setting_rows, specified_rows
from deploy.reference.store_users_page import store_users_page
from deploy.reference.usage_schema import usage_schema_page
from deploy.reference.user_org_openapi import user_org_page
from schemas.codec import published_schemas
from schemas.errors import ERRORS, grpc_status
from schemas.gen_ai import SEMCONV_VERSION
from schemas.headers import KINDS, Kind
from schemas.log_events import LogEvent, LogFields
from schemas.metrics import METRICS
from schemas.operations import OPERATIONS
from schemas.runtime.process.telemetry import OTHER, SERIES_MAX, VALUES_MAX
from schemas.times import LedgerTimes, Times
from schemas.topics import RESULT_BYTES, TOPICS, Topic

_OTHER_VARIABLES: Final = (
    (
        "`BACKEND_<ID>_API_KEY`",
        "dispatcher, `tallygate up`",
        "Key that is sent to backend `<id>`; with `_FILE` behind it, the file that holds it.",
    ),
    ("`BACKEND_ENDPOINTS`", "`tallygate up`", "Backends as `id:url,id:url`, beside `--backend`."),
    ("`TALLYGATE_ADMIN_URL`", "`tallygate`", "Where the admin API is, when `--url` says nothing."),
    (
        "`TALLYGATE_ADMIN_CERT`, `TALLYGATE_ADMIN_CERT_KEY`, `TALLYGATE_ADMIN_CA`",
        "`tallygate`, health check of the image",
        "PEM files for an admin API with TLS, when `--cert`, `--cert-key` and `--ca` say nothing.",
    ),
    ("`TALLYGATE_KAFKA_BROKERS`", "`tallygate`", "Brokers, when `--brokers` says nothing."),
    (
        "`TALLYGATE_LEDGER_MEMORY_MB`",
        "`tallygate up`",
        "`maxmemory` of its ledger; 512, at least 16.",
    ),
    (
        "`XDG_STATE_HOME`",
        "`tallygate up`",
        "Its state lies in `tallygate` there, without `--state-dir`.",
    ),
    ("`XDG_CACHE_HOME`", "`tallygate up`", "What it fetches once lies in `tallygate` there."),
)


def settings_page() -> str:
    """What processes read from their environment."""
    columns = ("variable", "default", "bounds", "meaning")
    parts: list[str] = []
    for stated, roles in _settings_and_roles().items():
        rows = list(setting_rows(stated))
        title = "Every process" if len(roles) == len(SETTINGS) else ", ".join(roles)
        parts += [f"## {title}", table(columns, rows)] if rows else []
    return page(
        "Settings",
        "the settings classes",
        "Each process reads its environment once, at its start, and names every problem at once (exit code 2).\n"
        "Each variable may instead be referred to: `NAME_FILE` is a file that holds the value of `NAME`, without the line's end, at\n"
        "most 64 KiB. That is for secrets: peppers, addresses of stores with passwords in them, keys of backends.",
        *parts,
        "## The specification's names",
        "Each works in its own form, or is refused with what replaces it. One that contradicts our own variable is an error; a\n"
        "process that has no such setting has no use for it; an empty one counts as not given. `tallygate up` brings its own broker and stores and refuses other ones.",
        table(("variable", "the same as", "meaning"), specified_rows()),
        "## Beside the settings",
        table(("variable", "read by", "meaning"), _OTHER_VARIABLES),
    )


def _settings_and_roles() -> dict[type[BaseSettings], list[str]]:
    """Each class that states settings, those that most share first, and the roles that read them."""
    found: dict[type[BaseSettings], list[str]] = {}
    for role, settings in SETTINGS.items():
        for each in settings.__mro__:
            if issubclass(each, BaseSettings) and own_fields(each):
                found.setdefault(each, []).append(role)
    return dict(sorted(found.items(), key=lambda one: -len(one[1])))


def errors_page() -> str:
    """What clients match on."""
    rows = [
        (
            str(spec.status),
            code(grpc_status(spec.status)),
            code(error),
            code(spec.openai_type),
            spec.title,
            "yes" if spec.may_retry else "no",
            duration(spec.retry_after_ms) if spec.retry_after_ms else "",
        )
        for error, spec in sorted(ERRORS.items(), key=lambda each: (each[1].status, each[0]))
    ]
    columns = ("status", "gRPC", "code", "type", "title", "retry", "default `retry-after`")
    return page(
        "Error codes",
        "`schemas/errors.py`",
        "Programs match on the code; titles and messages may change. *Retry: no* sends `x-should-retry: false`,\n"
        "because the same request cannot succeed later by itself. A limit answers with a hint of its own.",
        table(columns, rows),
    )


def metrics_page() -> str:
    """What `/metrics` exports."""
    rows = [
        (code(name), spec.kind, ", ".join(map(code, spec.labels)), spec.meaning)
        for name, spec in METRICS.items()
    ]
    return page(
        "Metrics",
        "`schemas/metrics.py`",
        "In Prometheus text form at `/metrics` of every process, each of which exports those that it uses, beside `process_*` of\n"
        "prometheus_client; as OpenMetrics, with the id of a request and its trace as exemplars, where `Accept` asks for that. *Likewise*\n"
        "and *them* refer to the line before. No label carries a key, a user, an id or anything that a client typed, and each is bounded:\n"
        f"after {VALUES_MAX} values of a label, or {SERIES_MAX} series of a metric, a process says `{OTHER}`. Names that begin with `gen_ai_` are\n"
        f"those of OpenTelemetry's semantic conventions for generative AI, {SEMCONV_VERSION}; the counters of tokens are those that follow it.",
        table(("name", "kind", "labels", "meaning"), rows),
    )


def topics_page() -> str:
    """What lies in Kafka, and how long."""
    columns = ("topic", "key", "records", "kept", "at most, per partition", "dead letters")
    return page(
        "Topics",
        "`schemas/topics.py` and `schemas/headers.py`",
        "`tallygate topics apply` creates them and corrects their settings. A record is Avro: a zero byte, the schema's id\n"
        "in four bytes (`schemas/avro/ids.json`), the value. Records of one organization stay in order where `org_id` is the key.",
        table(columns, map(_topic_row, TOPICS)),
        "## Records",
        table(("record", "versions"), _record_rows()),
        "## Headers",
        "Every record is a CloudEvent in binary mode: `ce_specversion` 1.0, `ce_type`, `ce_source` (`/tallygate/` and the role\n"
        "that says it), `ce_id` (no other event of that source has it, and a copy has the same), `ce_time`, `content-type`.\n"
        "Those of a request's path carry `request_id` and `deadline_ms`, and `traceparent` where the client sent one or it is traced. Dead\n"
        "letters keep the headers of what they were.",
        table(("`ce_type`", "value", "`content-type`", "topics"), map(_kind_row, KINDS)),
    )


def _kind_row(kind: Kind) -> tuple[str, ...]:
    names = ", ".join(map(code, kind.topics))
    value = kind.value if (kind.value,) == RESULT_BYTES else code(kind.value)
    return code(kind.type), value, code(kind.content_type.decode()), names


def _topic_row(topic: Topic) -> tuple[str, ...]:
    kept = "newest of each key" if topic.retention_ms is None else duration(topic.retention_ms)
    return (
        code(topic.name) + (" (one partition)" if topic.one_partition else ""),
        topic.key,
        ", ".join(map(code, topic.records)) if topic.holds_events else topic.records[0],
        kept,
        size(topic.retention_bytes) if topic.retention_bytes else "no bound",
        code(f"{topic.name}.dlq") if topic.has_dead_letters else "",
    )


def _record_rows() -> list[tuple[str, str]]:
    versions: dict[str, list[str]] = {}
    for schema in published_schemas():
        file = f"../../schemas/avro/{schema.name}.v{schema.version}.avsc"
        versions.setdefault(schema.name, []).append(
            f"[v{schema.version}]({file}) id {schema.schema_id}"
        )
    return [(code(name), ", ".join(links)) for name, links in sorted(versions.items())]


def times_page() -> str:
    """How long things last."""
    columns = ("name", "time", "meaning")
    return page(
        "Times",
        "`schemas/times.py`",
        "After how long something is given up, forgotten or done again. They are constants, not settings; where a setting\n"
        "may change one, [settings](settings.md) says so.",
        "## Known to the ledger's functions",
        table(columns, _time_rows(LedgerTimes)),
        "## Known to the processes",
        table(columns, _time_rows(Times)),
    )


def _time_rows(times: type[Any]) -> list[tuple[str, ...]]:
    docs = field_docs(times)
    stated: tuple[Field[Any], ...] = fields(times)
    return [
        (code(each.name), duration(each.default), prose(docs[each.name]))
        for each in stated
        if isinstance(each.default, int)
    ]


def operations_page() -> str:
    """What clients can ask for."""
    rows = [
        (
            code(name),
            code(f"POST {row.path}"),
            row.surface,
            ", ".join(f"{spoken}: {code(path)}" for spoken, path in row.upstream_paths.items()),
            "yes" if row.streams else "no",
            row.bounded_by.replace("_", " "),
            "yes" if row.keeps_result else "with a key",
        )
        for name, row in OPERATIONS.items()
    ]
    columns = (
        "operation",
        "route",
        "errors as",
        "asked of a backend",
        "streams",
        "bounded by",
        "result kept",
    )
    return page(
        "Operations",
        "`schemas/operations.py`",
        "What the gateway does for a client. The name is the `route` of events and usage lines, and the `operation` of metrics. *Errors as*: the\n"
        "form of an error: OpenAI's object, Anthropic's, or problem fields.",
        table(columns, rows),
    )


def log_events_page() -> str:
    """What processes say in their logs."""
    rows = [
        (code(event.name.lower()), logging.getLevelName(spec.level), spec.meaning, spec.action)
        for event in LogEvent
        for spec in (event.value,)
    ]
    return page(
        "Log events",
        "`schemas/log_events.py`",
        "Each line of a log is one event of this list with fields. Search for a request by its id: `request_id` stands in the\n"
        "lines of every process that had it.",
        table(("event", "level", "meaning", "what to do"), rows),
        "## Fields",
        table(("field", "meaning"), _field_rows()),
    )


def _field_rows() -> list[tuple[str, str]]:
    of_every_line = (
        ("error", "What went wrong, as its exception says it."),
        ("exception", "The traceback of a defect."),
        (
            "left_out",
            "How many lines of this event and module were not written: beyond ten a second.",
        ),
        ("logger", "The module that says it, or the library."),
        ("service.name", "The process."),
    )
    rows = (*of_every_line, *field_docs(LogFields).items())
    return [(code(name), prose(doc)) for name, doc in rows]


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "admin-roles.md": admin_roles_page,
    "budget-service.openapi.yaml": budget_service_page,
    "command-line.md": command_page,
    "errors.md": errors_page,
    "kafka-users.md": kafka_users_page,
    "log-events.md": log_events_page,
    "metrics.md": metrics_page,
    "openapi.yaml": openapi_page,
    "operations.md": operations_page,
    "settings.md": settings_page,
    "times.md": times_page,
    "topics.md": topics_page,
    "store-users.md": store_users_page,
    "usage-record.schema.yaml": usage_schema_page,
    "user-org.openapi.yaml": user_org_page,
}
"""File name in ``docs/reference`` -> what makes its text."""
PUBLISHED: Final[Mapping[str, Callable[[], str]]] = {
    "docs.html": html_page,
    "llms.txt": llms_served,
    "llms-full.txt": llms_full,
    "openapi.json": openapi_json,
}
"""The same for ``schemas/published``, which the processes serve."""

"""The variables that the gateway's specification names, and OpenTelemetry's own, and what each is here: one table. Pure.

Each works in its own form, or is refused in a sentence that says what replaces it; none is ignored in silence. One that
contradicts our own variable, or another of the table, is a problem and no choice. An empty one counts as not given, which is
what compose files make of a variable that is not set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.runtime.kafka.address import read_kafka_address
from schemas.runtime.valkey.address import read_address
from schemas.sampling import SAMPLERS
from schemas.topics import AUDIT

PREFIX: Final = "TALLYGATE_"
_PORT_MAX: Final = 65_535
_PROTOCOL: Final = "http/protobuf"
_UNITS_S: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3_600.0,
}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


def variable_of(setting: str) -> str:
    """The variable under which a process reads a setting."""
    return f"{PREFIX}{setting.upper()}"


def seconds(text: str) -> str:
    """A duration in Go's form, such as ``2s``, ``500ms`` or ``1m30s``, as a decimal number of seconds.

    Raises ``ValueError`` for anything else, a number without a unit too. Source: Go's ``time.ParseDuration``.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("it is no duration; write it with a unit, such as 2s, 500ms or 1m30s")
    return str(sum(float(number) * _UNITS_S[unit] for number, unit in parts))


def _brokers(text: str) -> str:
    """As our setting; without more than places, each with its port."""
    address = read_kafka_address(text)
    return text if "://" in text else address.plain


def _store(text: str) -> str:
    """``host:port`` as an address of ours; several of them are a cluster's, as in go-redis."""
    url = text if "://" in text else f"redis{'+cluster' if ',' in text else ''}://{text}"
    if any(server.host.isdigit() for server in read_address(url).servers):
        raise ValueError("a number alone is no address; write host:port")
    return url


def _port(text: str) -> str:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _PORT_MAX:
        raise ValueError(f"it is no port from 1 to {_PORT_MAX}")
    return text


def _number(text: str) -> str:
    try:
        return str(float(text))
    except ValueError:
        raise ValueError("it is no number") from None


def _whole(text: str) -> str:
    if not text.isascii() or not text.isdigit():
        raise ValueError("it is no whole number")
    return text


def _protocol(text: str) -> str:
    if text != _PROTOCOL:
        raise ValueError(f"traces go over {_PROTOCOL}, which every receiver takes on port 4318")
    return text


def _sampler(text: str) -> str:
    if text not in SAMPLERS:
        raise ValueError(f"it is none of {', '.join(SAMPLERS)}")
    return text


def _audit_topic(text: str) -> str:
    if text != AUDIT:
        raise ValueError(
            f"topics have fixed names: audit events are in {AUDIT}; read them there, or leave the variable out"
        )
    return text


def _refused(instead: str) -> Callable[[str], str]:
    def refuse(_: str) -> str:
        raise ValueError(instead)

    return refuse


@dataclass(frozen=True, slots=True)
class SpecifiedVariable:
    """One variable of the specification."""

    name: str
    meaning: str
    """What it is here, or what replaces it; a sentence of the settings page."""
    read: Callable[[str], str]
    """Its text as our setting takes it. Raises ``ValueError`` with the sentence for whoever set it."""
    setting: str | None = None
    """The field of the settings classes that it fills; a process without that field has no use for it."""
    means: Callable[[str], Any] = str
    """What a text of our setting means; two that mean the same do not contradict."""


_BACKENDS: Final = "a process learns its backends from the configuration: tallygate config apply -f FILE; only tallygate up reads this variable"
_CONFIG: Final = "the configuration is a topic of Kafka, and needs no service: tallygate config apply -f FILE writes it"

SPECIFIED: Final = (
    SpecifiedVariable(
        "SERVICE_NAME",
        "Name of the installation in logs.",
        str,
        "service_name",
    ),
    SpecifiedVariable("HTTP_PORT", "Port of the public API.", _port, "port", int),
    SpecifiedVariable(
        "REDIS_ADDR",
        "The ledger's store as `host:port`, several with commas for a cluster, or as our setting.",
        _store,
        "ledger_url",
        read_address,
    ),
    SpecifiedVariable(
        "RATE_LIMIT_REDIS_ADDR",
        "The same: rates are decided where budgets are.",
        _store,
        "ledger_url",
        read_address,
    ),
    SpecifiedVariable(
        "KAFKA_BROKERS",
        "Bootstrap brokers as `host:port`, several with commas.",
        _brokers,
        "kafka_brokers",
        read_kafka_address,
    ),
    SpecifiedVariable(
        "RATE_LIMIT_DEFAULT_RPS",
        "Requests per second of organizations and keys that state none.",
        _number,
        "rate_limit_default_rps",
        float,
    ),
    SpecifiedVariable(
        "RATE_LIMIT_BURST_SIZE",
        "How many of them may come at once.",
        _whole,
        "rate_limit_burst_size",
        int,
    ),
    SpecifiedVariable(
        "KAFKA_AUDIT_TOPIC",
        f"`{AUDIT}` and no other: topics have fixed names.",
        _audit_topic,
    ),
    SpecifiedVariable(
        "BUDGET_SERVICE_ENDPOINT",
        "The external budget service.",
        str,
        "budget_service_endpoint",
    ),
    SpecifiedVariable(
        "BUDGET_SERVICE_TIMEOUT",
        "How long an answer of it may take, such as `2s`.",
        seconds,
        "budget_service_timeout_s",
        float,
    ),
    SpecifiedVariable("BACKEND_ENDPOINTS", f"Refused: {_BACKENDS}.", _refused(_BACKENDS)),
    SpecifiedVariable("CONFIG_SERVICE_ENDPOINT", f"Refused: {_CONFIG}.", _refused(_CONFIG)),
    SpecifiedVariable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "The receiver of traces, by OTLP over HTTP: port 4318, not 4317.",
        str,
        "traces_endpoint",
    ),
    SpecifiedVariable(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Headers of each call there, as `name=value,name=value`.",
        str,
        "traces_headers",
    ),
    SpecifiedVariable(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        f"`{_PROTOCOL}` and no other: what every receiver takes.",
        _protocol,
    ),
    SpecifiedVariable(
        "OTEL_TRACES_SAMPLER",
        "Which requests are traced.",
        _sampler,
        "traces_sampler",
    ),
    SpecifiedVariable(
        "OTEL_TRACES_SAMPLER_ARG",
        "The share of them, from 0 to 1; 0.1 where it is not given.",
        _number,
        "traces_ratio",
        float,
    ),
    SpecifiedVariable(
        "OTEL_SERVICE_NAME",
        "The same as `SERVICE_NAME`.",
        str,
        "service_name",
    ),
)


@dataclass(frozen=True, slots=True)
class Specified:
    """What the variables of the table say to one process."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Setting -> text as the setting takes it."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Setting -> the variable that spoke of it."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Variable -> what is wrong with it, without its value: it may hold a password."""


def specified(environment: Mapping[str, str], settings: Collection[str]) -> Specified:
    """What the environment says by variables of the specification to a process that has these settings."""
    values: dict[str, str] = {}
    variables: dict[str, str] = {}
    problems: dict[str, str] = {}
    for row in SPECIFIED:
        text = environment.get(row.name, "").strip()
        if not text or (row.setting is not None and row.setting not in settings):
            continue
        try:
            told = row.read(text)
        except ValueError as error:
            problems[row.name] = str(error)
            if row.setting is not None:
                variables.setdefault(row.setting, row.name)
            continue
        if row.setting is None:
            continue
        own = variable_of(row.setting)
        known = {own: environment.get(own, "")}
        if row.setting in values:
            known[variables[row.setting]] = values[row.setting]
        for other, said in known.items():
            if said and _contradict(row, told, said):
                problems[row.name] = f"it contradicts {other}; give one of them, or both alike"
        values[row.setting], variables[row.setting] = told, row.name
    return Specified(values, variables, problems)


def _contradict(row: SpecifiedVariable, told: str, said: str) -> bool:
    """Whether the two mean different things; a text that means nothing is told by whoever reads it."""
    try:
        return bool(row.means(told) != row.means(said))
    except ValueError:
        return False

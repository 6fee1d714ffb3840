"""What every process is told by its environment, read once in its entry point.

Prefix ``TALLYGATE_``. Each variable may instead be referred to: ``NAME_FILE`` is a file that holds the value, for secrets above all.
The names of the specification are accepted beside ours, or refused with a reason (``specified.py``). All problems are reported
at once.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import unquote

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.backend_url import url_problem
from schemas.config_signing import Signer, SignerName, Verifier, read_signer, read_verifier
from schemas.log_events import LogEvent
from schemas.runtime.kafka.access import check_brokers
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.production import Environment, Told, production_problems
from schemas.runtime.process.secret_files import FILE, read_value
from schemas.runtime.process.specified import specified, variable_of
from schemas.runtime.valkey.wire import check_address
from schemas.sampling import SamplerName
from schemas.stated_limits import Defaults
from schemas.times import Times, times_of

_LOG = EventLog(__name__)
EXIT_USAGE = 2
_STORES: Final = ("TALLYGATE_LEDGER_URL", "TALLYGATE_BUS_URL")
_SECRETS: Final = re.compile(r"(?<=//)[^/\s]*(?=@)|^[^/\s]*(?=@)|(?<=password=)[^&\s]+")
"""Who logs in where, in URLs, and passwords among their options."""


class ProcessSettings(BaseSettings):
    """Settings that all six processes share."""

    model_config = SettingsConfigDict(env_prefix="TALLYGATE_", frozen=True, extra="ignore")

    kafka_brokers: str
    """Bootstrap brokers: ``host:port,host:port``, or ``kafkas://user:password@host:port,host:port?ssl_ca_certs=FILE`` over TLS with SASL
    (``schemas/runtime/kafka/address.py``)."""
    ledger_url: str
    """The ledger store: ``redis://host:port/0`` (``rediss`` for TLS), ``redis+cluster://host:port,host:port``
    or ``redis+sentinel://host:port/name``."""
    env: Environment = Environment.DEVELOPMENT
    """``production`` refuses to start with what is not fit for it: a broker or store without TLS, secrets that can be guessed, key
    files that everybody may read, an admin port without client certificates."""
    data_dir: Path
    """Folder of the last-known-good configuration."""
    instance_id: str
    """Stable name of this replica, such as ``dispatcher-0``."""
    host: str = "127.0.0.1"
    """Address that the process listens on."""
    log_level: str = "INFO"
    """``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``."""
    config_verify_keys: str = ""
    """Public keys of those who may write the configuration, ``admin=HEX,accounting=HEX`` as ``tallygate config keys`` prints
    them; a name may stand there twice while its key is changed. Without them whoever can write to the topic is believed."""
    service_name: str = Field(default="", max_length=100)
    """Name of the installation in its logs, whose ``service.name`` is then ``<name>-<role>``; the role alone without it."""
    count_loop: bool = False
    """Whether tasks, timers and futures are counted, for benchmarks."""
    count_calls: bool = False
    """Whether calls of functions are counted, for benchmarks; a process is slower then."""
    test: bool = False
    """Whether this is a test stack, which may do what would be wrong anywhere else."""
    test_time_scale: int = Field(default=1, ge=1, le=100_000)
    """What all of ``schemas/times.py`` is divided by; only test stacks may."""

    @field_validator("kafka_brokers")
    @classmethod
    def _are_brokers(cls, listed: str) -> str:
        check_brokers(listed)
        return listed

    @field_validator("ledger_url", "bus_url", check_fields=False)
    @classmethod
    def _is_a_store(cls, url: str) -> str:
        check_address(url)
        return url

    @field_validator("config_verify_keys")
    @classmethod
    def _are_keys(cls, listed: str) -> str:
        read_verifier(listed)
        return listed

    @property
    def config_verifier(self) -> Verifier | None:
        """Who may write the configuration; ``None`` where everybody is believed."""
        return read_verifier(self.config_verify_keys)

    @field_validator("test_time_scale")
    @classmethod
    def _only_in_tests(cls, scale: int, others: ValidationInfo) -> int:
        if scale > 1 and not others.data.get("test"):
            raise ValueError("only a test stack (TALLYGATE_TEST=1) may divide times")
        return scale

    @property
    def opens_admin_port(self) -> bool:
        """Whether the process has an admin port that asks for no certificate."""
        return False

    def name_in_logs(self, role: str) -> str:
        """The ``service.name`` of a process."""
        return f"{self.service_name}-{role}" if self.service_name else role

    @property
    def times(self) -> Times:
        """Everything that is given up, forgotten or repeated, and after how long."""
        return times_of(self.test_time_scale)


class DataPlaneSettings(ProcessSettings):
    """Settings of the five processes that requests go through."""

    bus_url: str
    """The store that carries replies, as the ledger's; a second instance, because it may be lost."""
    rate_limit_default_rps: float = Field(default=100.0, gt=0)
    """Requests per second of organizations and keys that state none."""
    rate_limit_burst_size: int = Field(default=200, ge=1)
    """How many of them may come at once."""
    org_inflight_default: int = Field(default=256, ge=1)
    """Requests of one organization between admission and their end, where it states no concurrency."""
    traces_endpoint: str = ""
    """Where spans of traced requests go over OTLP/HTTP, such as ``http://collector:4318``, to which ``/v1/traces`` is added;
    nothing is traced without it."""
    traces_headers: SecretStr | None = None
    """Headers of each call there, ``name=value,name=value`` with values in percent-encoding."""
    traces_sampler: SamplerName = "parentbased_traceidratio"
    """Which requests are traced, by OpenTelemetry's names: those that begin with ``parentbased_`` heed what a client's
    ``traceparent`` says."""
    traces_ratio: float = Field(default=0.1, ge=0, le=1)
    """The share of requests that is traced, by samplers that take one."""
    traces_followed_per_s: float = Field(default=10.0, ge=0, le=1_000)
    """How many requests a second each ingress traces because their clients ask for it in ``traceparent``, beyond that share."""
    traces_content: bool = False
    """Whether prompts and answers stand in spans; they do nowhere else outside of the log."""

    @property
    def default_limits(self) -> Defaults:
        """The limits of organizations and keys that state none."""
        return Defaults(
            self.rate_limit_default_rps, self.rate_limit_burst_size, self.org_inflight_default
        )

    @field_validator("traces_endpoint")
    @classmethod
    def _is_a_receiver(cls, url: str) -> str:
        if url and (problem := url_problem(url)):
            raise ValueError(problem)
        return url.rstrip("/")

    @field_validator("traces_headers")
    @classmethod
    def _are_headers(cls, listed: SecretStr | None) -> SecretStr | None:
        if listed is not None:
            read_headers(listed.get_secret_value())
        return listed

    @property
    def traces_url(self) -> str | None:
        """Where spans are posted; ``None`` where nothing is traced."""
        return f"{self.traces_endpoint}/v1/traces" if self.traces_endpoint else None

    @property
    def traces_call_headers(self) -> dict[str, str]:
        """The headers of each of these calls."""
        listed = self.traces_headers
        return {} if listed is None else read_headers(listed.get_secret_value())


class WorkerSettings(DataPlaneSettings):
    """Settings of the three Faust workers."""

    http_port: int
    """Port of ``/livez``, ``/readyz`` and ``/metrics``."""
    session_timeout_s: float = Field(default=10.0, ge=6.0)
    """How long the group waits for a dead worker; 6 s is the broker's floor."""


class BudgetServiceSettings(ProcessSettings):
    """Settings of the processes that call an external budget service."""

    budget_service_endpoint: str | None = None
    """The external budget service, such as ``http://budget:8082``; asked for organizations that have a
    ``budget_service``, and told what they spend."""
    budget_service_timeout_s: float = Field(default=2.0, ge=0.05, le=4.0)
    """How long an answer of it may take."""
    budget_service_token: SecretStr | None = None
    """Sent to it as a bearer token."""

    @field_validator("budget_service_endpoint")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url and (problem := url_problem(url)):
            raise ValueError(problem)
        return url or None


def signer_of(name: SignerName, key: SecretStr | None, verify_keys: str) -> Signer | None:
    """Whoever signs under that name; ``None`` without a key.

    Raises ``ValueError`` where readers would not believe what it writes.
    """
    verifier = read_verifier(verify_keys)
    if key is None:
        if verifier is not None:
            raise ValueError(
                "TALLYGATE_CONFIG_VERIFY_KEYS is given, so this process needs TALLYGATE_CONFIG_SIGNING_KEY"
            )
        return None
    signer = read_signer(name, key.get_secret_value())
    if verifier is not None and (name, signer.public) not in verifier.listed:
        raise ValueError(
            f"TALLYGATE_CONFIG_SIGNING_KEY is none of {name}'s in TALLYGATE_CONFIG_VERIFY_KEYS"
        )
    return signer


_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def read_headers(listed: str) -> dict[str, str]:
    """Headers in the form of ``OTEL_EXPORTER_OTLP_HEADERS``; raises ``ValueError`` for anything else.

    Source: OpenTelemetry, specification of the protocol exporter: W3C Baggage without properties.
    """
    headers: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in listed.split(","))):
        name, separator, value = pair.partition("=")
        value = unquote(value.strip())
        if not separator or not _HEADER.fullmatch(name.strip()) or not value.isprintable():
            raise ValueError("it is no list of name=value, with commas between them")
        headers[name.strip().lower()] = value
    return headers


S = TypeVar("S", bound=BaseSettings)


def read_settings(wanted: type[S]) -> S:
    """The settings in the environment; on problems, print all of them and exit with status 2."""
    files, problems = _of_files(os.environ, wanted.model_fields)
    read = {variable_of(name): text for name, text in files.items()}
    told = specified({**os.environ, **read}, wanted.model_fields)
    problems.update(told.problems)
    values: dict[str, Any] = {**told.values, **files}
    settings: S | None
    try:
        settings = wanted(**values)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            # What is wrong with several of them together names them itself.
            variable = told.variables.get(name, variable_of(name)) if name else ""
            # What cannot be read leaves its setting empty: one line about it is enough.
            if variable + FILE not in problems:
                problems.setdefault(variable, problem["msg"])
        settings = None
    if isinstance(settings, ProcessSettings) and settings.env is Environment.PRODUCTION:
        problems.update(production_problems(_told(settings, os.environ)))
    if problems or settings is None:
        refuse_to_start(problems)
    return settings


def _told(settings: ProcessSettings, environment: Mapping[str, str]) -> Told:
    """What of the settings has to be fit for production."""
    values = {variable_of(name): value for name, value in settings if value is not None}
    return Told(
        brokers=settings.kafka_brokers,
        stores={name: values[name] for name in _STORES if name in values},
        secrets={n: v.get_secret_value() for n, v in values.items() if isinstance(v, SecretStr)},
        key_files={n: v for n, v in values.items() if isinstance(v, Path) and n.endswith("_KEY")},
        environment=environment,
        is_test=settings.test,
        has_open_admin_port=settings.opens_admin_port,
    )


def refuse_to_start(problems: Mapping[str, str]) -> NoReturn:
    """Print what is wrong with each variable and exit with status 2."""
    for variable, text in problems.items():
        print(f"{variable}: {text}" if variable else text, file=sys.stderr)
    print("Set these variables in the environment of the process.", file=sys.stderr)
    raise SystemExit(EXIT_USAGE)


def _of_files(
    environment: Mapping[str, str], settings: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The settings that files hold, and what is wrong with some of these files, by variable."""
    values: dict[str, str] = {}
    problems: dict[str, str] = {}
    for setting in settings:
        variable = variable_of(setting)
        # A setting that is itself the place of a file is not a reference to another.
        if not environment.get(variable + FILE) or f"{setting}{FILE.lower()}" in settings:
            continue
        try:
            values[setting] = read_value(environment, variable) or ""
        except ValueError as error:
            problems[variable + FILE] = str(error)
    return values, problems


def log_settings(settings: ProcessSettings) -> None:
    """Write what the process was told, without secrets, and what makes it unfit for anything but tests."""
    _LOG.event(LogEvent.SETTINGS, settings=redacted(settings))
    if settings.test_time_scale > 1:
        _LOG.event(LogEvent.TIMES_DIVIDED, count=settings.test_time_scale)


def redacted(settings: BaseSettings) -> dict[str, Any]:
    """The settings as printed at start: secrets masked, passwords cut out of addresses."""
    shown: dict[str, Any] = {}
    for name, value in settings:
        text = "***" if isinstance(value, SecretStr) else str(value)
        shown[name] = _SECRETS.sub("***", text)
    return shown

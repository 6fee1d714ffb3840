"""Every variable that the specification names works in its form, or says what replaces it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from accounting.settings import AccountingSettings
from deploy.embedded.environment import SETTINGS
from ingress.settings import IngressSettings
from schemas.runtime.kafka.address import read_kafka_address
from schemas.runtime.process.settings import read_settings
from schemas.runtime.process.specified import SPECIFIED, seconds
from schemas.runtime.valkey.address import Kind, read_address

OWN = {
    "TALLYGATE_KAFKA_BROKERS": "127.0.0.1:1",
    "TALLYGATE_LEDGER_URL": "redis://127.0.0.1:1",
    "TALLYGATE_BUS_URL": "redis://127.0.0.1:2",
    "TALLYGATE_DATA_DIR": "/nowhere",
    "TALLYGATE_INSTANCE_ID": "one-0",
    "TALLYGATE_HTTP_PORT": "1",
    "TALLYGATE_FILES_URL": "file:///nowhere/files",
    "TALLYGATE_KEY_PEPPER": "0123456789abcdef0123456789abcdef",
}
WORKS = {
    "SERVICE_NAME": ("api-router-service", "service_name", "api-router-service"),
    "HTTP_PORT": ("8081", "port", 8081),
    "REDIS_ADDR": ("cache:6379", "ledger_url", "redis://cache:6379"),
    "RATE_LIMIT_REDIS_ADDR": ("a:1,b:2", "ledger_url", "redis+cluster://a:1,b:2"),
    "KAFKA_BROKERS": ("k1:9092, k2:9093", "kafka_brokers", "k1:9092,k2:9093"),
    "RATE_LIMIT_DEFAULT_RPS": ("50", "rate_limit_default_rps", 50.0),
    "RATE_LIMIT_BURST_SIZE": ("70", "rate_limit_burst_size", 70),
    "KAFKA_AUDIT_TOPIC": ("audit.router", None, None),
    "BUDGET_SERVICE_ENDPOINT": (
        "http://localhost:8082",
        "budget_service_endpoint",
        "http://localhost:8082",
    ),
    "BUDGET_SERVICE_TIMEOUT": ("1500ms", "budget_service_timeout_s", 1.5),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("http://otel:4318/", "traces_endpoint", "http://otel:4318"),
    "OTEL_EXPORTER_OTLP_HEADERS": ("a=b,c=d%20e", "traces_headers", SecretStr("a=b,c=d%20e")),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("http/protobuf", None, None),
    "OTEL_TRACES_SAMPLER": ("always_on", "traces_sampler", "always_on"),
    "OTEL_TRACES_SAMPLER_ARG": ("0.25", "traces_ratio", 0.25),
    "OTEL_SERVICE_NAME": ("api-router-service", "service_name", "api-router-service"),
}
"""As the specification writes it; the setting, and what a process is told then."""
REFUSED = {
    "SERVICE_NAME": ("x" * 101, "100"),
    "HTTP_PORT": (":8080", "no port"),
    "REDIS_ADDR": ("6379", "host:port"),
    "RATE_LIMIT_REDIS_ADDR": ("tcp://cache:6379", "no store"),
    "KAFKA_BROKERS": ("redis://k1:9092", "kafkas://"),
    "RATE_LIMIT_DEFAULT_RPS": ("many", "no number"),
    "RATE_LIMIT_BURST_SIZE": ("0", "greater than or equal to 1"),
    "KAFKA_AUDIT_TOPIC": ("audit.mine", "audit.router"),
    "BACKEND_ENDPOINTS": ("a:http://h:1", "tallygate config apply"),
    "CONFIG_SERVICE_ENDPOINT": ("etcd:2379", "tallygate config apply"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("otel:4317", "http"),
    "OTEL_EXPORTER_OTLP_HEADERS": ("a: b", "name=value"),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("grpc", "http/protobuf"),
    "OTEL_TRACES_SAMPLER": ("sometimes", "parentbased_traceidratio"),
    "OTEL_TRACES_SAMPLER_ARG": ("1.5", "less than or equal to 1"),
}
"""A value that cannot be followed, and a word of what is said then."""
OPENTELEMETRYS = {
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}
"""What belongs to the one variable of it that the specification names."""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)


def refusal(
    capsys: pytest.CaptureFixture[str], wanted: type[BaseSettings] = IngressSettings
) -> str:
    """What a process prints that does not start."""
    with pytest.raises(SystemExit) as ended:
        read_settings(wanted)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_the_table_has_every_variable_and_each_works_or_is_refused() -> None:
    """Those of the specification's documents, written down here a second time."""
    names = {row.name for row in SPECIFIED}

    assert names == set(WORKS) | set(REFUSED)
    assert len(names - OPENTELEMETRYS) == 13


@pytest.mark.parametrize("name", WORKS)
def test_a_variable_works_in_the_form_of_the_specification(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Where our own name says nothing."""
    text, setting, value = WORKS[name]
    monkeypatch.delenv(f"TALLYGATE_{setting}".upper(), raising=False)
    monkeypatch.setenv(name, text)

    asked = setting is not None and setting.startswith("budget_service")
    settings = read_settings(SETTINGS["limiter_worker"] if asked else IngressSettings)

    assert setting is None or getattr(settings, setting) == value


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_with_what_replaces_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """In one line that begins with the variable, and without a second one about the setting it leaves empty."""
    text, word = REFUSED[name]
    setting = next(row.setting for row in SPECIFIED if row.name == name)
    monkeypatch.delenv(f"TALLYGATE_{setting}".upper(), raising=False)
    monkeypatch.setenv(name, text)

    first, *others = refusal(capsys).splitlines()

    assert first.startswith(f"{name}: ")
    assert word in first
    assert len(others) == 1, "only the line about what to do"


@pytest.mark.parametrize("role", SETTINGS)
@pytest.mark.parametrize("name", sorted(set(REFUSED) - set(WORKS)))
def test_no_process_ignores_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], role: str, name: str
) -> None:
    """Whichever of them the variable was set for."""
    monkeypatch.setenv(name, REFUSED[name][0])

    assert name in refusal(capsys, SETTINGS[role])


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("REDIS_ADDR", "cache:6379", "127.0.0.1:1"),
        ("KAFKA_BROKERS", "k1:9092", "127.0.0.1:1"),
    ],
)
def test_a_variable_that_contradicts_ours_is_an_error_and_the_same_in_another_form_is_not(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    other: str,
    same: str,
) -> None:
    """Nothing is chosen in silence."""
    monkeypatch.setenv(name, same)
    read_settings(IngressSettings)

    monkeypatch.setenv(name, other)
    assert f"{name}: it contradicts TALLYGATE_" in refusal(capsys)


def test_two_variables_of_the_specification_may_not_contradict_each_other_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates and budgets are decided in one store. A password is not printed."""
    monkeypatch.delenv("TALLYGATE_LEDGER_URL")
    monkeypatch.setenv("REDIS_ADDR", "me:s3cret@a:6379")
    monkeypatch.setenv("RATE_LIMIT_REDIS_ADDR", "b:6379")

    told = refusal(capsys)

    assert "RATE_LIMIT_REDIS_ADDR: it contradicts REDIS_ADDR" in told
    assert "s3cret" not in told


def test_a_process_without_the_setting_has_no_use_for_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The port of the public API is none of accounting's, whose status port stays."""
    monkeypatch.setenv("HTTP_PORT", "8080")

    assert read_settings(AccountingSettings).http_port == 1


def test_an_empty_variable_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files make empty ones of what nobody set."""
    for name in {*WORKS, *REFUSED}:
        monkeypatch.setenv(name, "")

    assert read_settings(IngressSettings).ledger_url == OWN["TALLYGATE_LEDGER_URL"]


def test_an_elasticache_cluster_is_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several addresses with commas, as go-redis takes them."""
    monkeypatch.delenv("TALLYGATE_LEDGER_URL")
    monkeypatch.setenv("REDIS_ADDR", "a:1,b:2")

    assert read_address(read_settings(IngressSettings).ledger_url).kind is Kind.CLUSTER


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2s", 2.0),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("1.5h", 5_400.0),
        (".5s", 0.5),
        ("250us", 0.00025),
    ],
)
def test_durations_are_read_as_go_writes_them(text: str, value: float) -> None:
    """Source: the examples of ``time.ParseDuration``."""
    assert float(seconds(text)) == pytest.approx(value)


@pytest.mark.parametrize("text", ["2", "", "s", "2 s", "-2s", "1d", "2s3", "1e3s", "٢s"])
def test_what_go_would_not_take_is_no_duration(text: str) -> None:
    """Nor a negative one, which no timeout is."""
    with pytest.raises(ValueError, match="2s"):
        seconds(text)


@pytest.mark.parametrize("text", ["", "a:b", "a:0", "a:70000", ":9092", "a:1,", "me:pw@a:1"])
def test_brokers_that_are_none_are_refused(text: str) -> None:
    """At the start, not as a traceback of the Kafka client."""
    with pytest.raises(ValueError, match="broker"):
        read_kafka_address(text)


@pytest.mark.parametrize("role", SETTINGS)
def test_every_setting_of_every_process_may_be_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, role: str
) -> None:
    """Without the end of its line."""
    given = {
        name: text
        for name, text in OWN.items()
        if name.removeprefix("TALLYGATE_").lower() in SETTINGS[role].model_fields
    }
    expected = read_settings(SETTINGS[role])
    for name, text in given.items():
        (tmp_path / name).write_text(f"{text}\n", encoding="utf-8")
        monkeypatch.delenv(name)
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))

    assert read_settings(SETTINGS[role]) == expected


def test_a_secret_that_is_given_twice_or_cannot_be_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One line for each file, and nothing of what stands in it."""
    (tmp_path / "pepper").write_text("s3cret", encoding="utf-8")
    (tmp_path / "ledger").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("TALLYGATE_KEY_PEPPER_FILE", str(tmp_path / "pepper"))
    monkeypatch.delenv("TALLYGATE_LEDGER_URL")
    monkeypatch.setenv("TALLYGATE_LEDGER_URL_FILE", str(tmp_path / "ledger"))
    monkeypatch.delenv("TALLYGATE_BUS_URL")
    monkeypatch.setenv("TALLYGATE_BUS_URL_FILE", str(tmp_path / "away"))

    told = refusal(capsys)

    assert sorted(line.partition(": ")[0] for line in told.splitlines()[:-1]) == [
        "TALLYGATE_BUS_URL_FILE",
        "TALLYGATE_KEY_PEPPER_FILE",
        "TALLYGATE_LEDGER_URL_FILE",
    ]
    assert "s3cret" not in told
    assert OWN["TALLYGATE_KEY_PEPPER"] not in told

"""Settings refuse what only a test stack may do."""

from __future__ import annotations

import pytest

from accounting.settings import AccountingSettings
from schemas.runtime.process.settings import read_settings, redacted
from schemas.times import FULL

_ENVIRONMENT = {
    "TALLYGATE_KAFKA_BROKERS": "127.0.0.1:1",
    "TALLYGATE_LEDGER_URL": "redis://127.0.0.1:1",
    "TALLYGATE_BUS_URL": "redis://127.0.0.1:2",
    "TALLYGATE_DATA_DIR": "/nowhere",
    "TALLYGATE_INSTANCE_ID": "accounting-0",
    "TALLYGATE_HTTP_PORT": "1",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_times_are_whole_where_nobody_divides_them() -> None:
    """As in every installation."""
    assert read_settings(AccountingSettings).times == FULL


def test_a_process_that_is_no_test_refuses_divided_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to do about it; otherwise marks would be forgotten while money depends on them."""
    monkeypatch.setenv("TALLYGATE_TEST_TIME_SCALE", "60")

    with pytest.raises(SystemExit) as ended:
        read_settings(AccountingSettings)

    assert ended.value.code == 2
    assert "TALLYGATE_TEST_TIME_SCALE" in capsys.readouterr().err


def test_a_test_stack_divides_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, the ledger's too."""
    monkeypatch.setenv("TALLYGATE_TEST", "1")
    monkeypatch.setenv("TALLYGATE_TEST_TIME_SCALE", "60")

    assert read_settings(AccountingSettings).times.ledger.terminal_kept_ms == 15_000


def test_a_store_that_is_none_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both of them at once, each with its setting; no password is printed."""
    monkeypatch.setenv("TALLYGATE_LEDGER_URL", "redis://:s3cret@a,b")
    monkeypatch.setenv("TALLYGATE_BUS_URL", "redis+sentinel://a")

    with pytest.raises(SystemExit):
        read_settings(AccountingSettings)

    told = capsys.readouterr().err
    assert "several servers are a cluster" in told
    assert "TALLYGATE_BUS_URL" in told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:s3cret@a:1/0", "redis://***@a:1/0"),
        ("me:s3cret@a:1", "***@a:1"),
        ("redis+cluster://me:s3cret@a,b", "redis+cluster://***@a,b"),
        (
            "rediss+sentinel://a/n?sentinel_password=s3cret&ssl_ca_certs=/ca.pem",
            "rediss+sentinel://a/n?sentinel_password=***&ssl_ca_certs=/ca.pem",
        ),
    ],
)
def test_settings_are_shown_without_secrets(
    monkeypatch: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    """Whatever stands in the URL besides stays readable."""
    monkeypatch.setenv("TALLYGATE_BUS_URL", url)
    monkeypatch.setattr("schemas.runtime.process.settings.check_address", lambda _: None)

    assert redacted(read_settings(AccountingSettings))["bus_url"] == shown

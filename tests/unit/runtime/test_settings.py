"""Settings refuse what only a test stack may do."""

from __future__ import annotations

import pytest

from accounting.settings import AccountingSettings
from schemas.runtime.process.settings import read_settings
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

"""Settings refuse what only a test stack may do."""

from __future__ import annotations

import pytest

from accounting.settings import AccountingSettings
from ingress.admin.settings import AdminSettings
from ingress.settings import IngressSettings
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


_SHORT, _LONG = "x" * 31, "x" * 32


def _admin(monkeypatch: pytest.MonkeyPatch, **peppers: str) -> AdminSettings:
    for name, pepper in peppers.items():
        monkeypatch.setenv(f"TALLYGATE_{name.upper()}", pepper)
    return read_settings(AdminSettings)


@pytest.mark.parametrize("name", ["key_pepper", "key_pepper_previous"])
def test_a_short_pepper_is_refused_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which says how to make a good one, and not what it was."""
    with pytest.raises(SystemExit):
        _admin(monkeypatch, **({"key_pepper": _LONG} | {name: _SHORT}))

    (line, _) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"TALLYGATE_{name.upper()}: ")
    assert "32 characters or more; `openssl rand -hex 32`" in line
    assert _SHORT not in line


def test_an_empty_previous_pepper_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files pass on what is not set."""
    one = _admin(monkeypatch, key_pepper=_LONG, key_pepper_previous="")
    two = _admin(monkeypatch, key_pepper=_LONG, key_pepper_previous="y" * 32)

    assert one.key_peppers.live == (_LONG.encode(),)
    assert two.key_peppers.live == (_LONG.encode(), b"y" * 32)


@pytest.mark.parametrize("listed", ["10.0.0.1/8", "proxy.example", "10.0.0.0/8,x"])
def test_a_trusted_proxy_that_is_no_network_is_refused(
    listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody behind it could be told."""
    monkeypatch.setenv("TALLYGATE_KEY_PEPPER", _LONG)
    monkeypatch.setenv("TALLYGATE_TRUSTED_PROXIES", listed)

    with pytest.raises(SystemExit):
        read_settings(IngressSettings)


def test_trusted_proxies_are_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of networks and single addresses."""
    monkeypatch.setenv("TALLYGATE_KEY_PEPPER", _LONG)
    monkeypatch.setenv("TALLYGATE_TRUSTED_PROXIES", " 10.0.0.0/8, 2001:db8::1,")

    assert read_settings(IngressSettings).proxies == ("10.0.0.0/8", "2001:db8::1")

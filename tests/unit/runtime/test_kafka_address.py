"""Where the brokers are, and what every client of Kafka is told of it."""

from __future__ import annotations

import ast
import ssl
from pathlib import Path

import pytest

from schemas.runtime.kafka.access import check_brokers, client_options
from schemas.runtime.kafka.address import read_kafka_address
from schemas.runtime.kafka.consume.faust_app import _credentials
from tests.support.calls_in_code import parsed_files
from tests.support.harness.certificates import Authority
from tests.unit.cli.scripted_admin import local


@pytest.mark.parametrize(
    ("text", "protocol", "plain"),
    [
        ("a:1,b:2", "PLAINTEXT", "a:1,b:2"),
        ("kafka://a", "PLAINTEXT", "a:9092"),
        ("kafka://u:p@a:1", "SASL_PLAINTEXT", "a:1"),
        ("kafkas://a:1,b", "SSL", "a:1,b:9092"),
        ("kafkas://u:p%2Fw@[::1]:1?sasl=PLAIN", "SASL_SSL", "[::1]:1"),
    ],
)
def test_the_scheme_and_the_user_say_how_brokers_are_spoken_to(
    text: str, protocol: str, plain: str
) -> None:
    """In Kafka's own names of protocols."""
    address = read_kafka_address(text)

    assert (address.protocol, address.plain) == (protocol, plain)
    assert "p/w" not in repr(address)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a broker is host:port"),
        ("u:p@a:1", "a broker is host:port"),
        ("kafka://", "a broker is host:port"),
        ("redis://a:1", "redis:// is no broker"),
        ("kafka://a:1/topic", "nothing but options"),
        ("kafka://a:0", "port"),
        ("kafka://a:1?ssl_ca_certs=/x", "ssl_ca_certs: no such option"),
        ("kafkas://a:1?sasl=PLAIN", "sasl: no such option"),
        ("kafkas://u:p@a:1?sasl=GSSAPI", "sasl is none of"),
        ("kafkas://a:1?ssl_keyfile=/x", "a key belongs to a certificate"),
        ("kafkas://u:hidden@a:1?ssl_verify=no", "ssl_verify: no such option"),
    ],
)
def test_what_is_no_address_is_told_without_its_secrets(text: str, problem: str) -> None:
    """There is no option against verifying who answers."""
    with pytest.raises(ValueError, match=problem) as refused:
        check_brokers(text)

    assert "hidden" not in str(refused.value)


def test_files_of_tls_are_looked_at_before_the_start(tmp_path: Path) -> None:
    """Not there, and not what they should be."""
    (tmp_path / "ca").write_text("nonsense")
    for name in ("none", "ca"):
        with pytest.raises(ValueError, match="a file of TLS cannot be used"):
            check_brokers(f"kafkas://a:1?ssl_ca_certs={tmp_path / name}")


def test_every_client_is_told_the_same(tmp_path: Path) -> None:
    """Those of aiokafka in its options, Faust in its own words."""
    ours = Authority(tmp_path, "ours")
    me = ours.vouch("me")
    files = (
        f"ssl_ca_certs={ours.pair.certificate}&ssl_certfile={me.certificate}&ssl_keyfile={me.key}"
    )
    options = client_options(f"kafkas://u:p@a:1,b:2?{files}")

    context = options.pop("ssl_context")
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert options == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
    }
    told = _credentials(options | {"ssl_context": context})
    assert told is not None
    assert told.protocol.value == "SASL_SSL"
    assert _credentials(client_options("a:1")) is None
    over_tls = _credentials({"ssl_context": context})
    assert over_tls is not None
    assert over_tls.protocol.value == "SSL"


@pytest.mark.parametrize("command", ["topics list", "topics apply", "topics tail audit.router"])
def test_a_command_that_finds_no_broker_shows_no_password(command: str) -> None:
    """What it was told stands in its error without its secrets; what is no address is told at once."""
    away = local(*command.split(), "--brokers", "kafka://u:hidden@127.0.0.1:1")
    wrong = local(*command.split(), "--brokers", "kafka://u:hidden@127.0.0.1:1?sasl=hidden2")

    assert (away[0], "Kafka at 127.0.0.1:1 did not do it" in away[2]) == (1, True)
    assert (wrong[0], "sasl is none of" in wrong[2]) == (2, True)
    assert "hidden" not in "".join(map(str, (*away, *wrong)))


def test_nobody_connects_to_a_broker_past_the_address() -> None:
    """One that knew places only would find no way in where the others do."""
    past = {
        path
        for path, tree in parsed_files()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "bootstrap_servers"
    }

    assert past == set()

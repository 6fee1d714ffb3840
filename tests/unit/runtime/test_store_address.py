"""One setting says where a store stands; what is wrong with it is said in a sentence, without secrets."""

from __future__ import annotations

import pytest

from schemas.runtime.valkey.address import Endpoint, Kind, Login, Tls, read_address
from schemas.runtime.valkey.wire import check_address


@pytest.mark.parametrize(
    ("url", "kind", "servers"),
    [
        ("redis://store", Kind.ALONE, ["store:6379"]),
        ("store:7000", Kind.ALONE, ["store:7000"]),
        ("redis://[::1]:7000/0", Kind.ALONE, ["::1:7000"]),
        ("redis://[::1]", Kind.ALONE, ["::1:6379"]),
        ("redis+cluster://a:1,b,c:3", Kind.CLUSTER, ["a:1", "b:6379", "c:3"]),
        ("rediss+cluster://a", Kind.CLUSTER, ["a:6379"]),
        ("redis+sentinel://a,b:2/ledger", Kind.SENTINEL, ["a:26379", "b:2"]),
    ],
)
def test_servers_are_those_of_the_url(url: str, kind: Kind, servers: list[str]) -> None:
    """With the usual ports where it names none."""
    address = read_address(url)

    assert address.kind is kind
    assert list(map(str, address.servers)) == servers


def test_logins_names_and_databases_are_read() -> None:
    """Percent signs are decoded; Sentinels have a login of their own."""
    url = "redis+sentinel://me:p%40ss@a/ledger/3?sentinel_username=s&sentinel_password=t"
    address = read_address(url)

    assert address.login == Login("me", "p@ss")
    assert (address.primary, address.database) == ("ledger", 3)
    assert address.sentinel_login == Login("s", "t")
    assert read_address("redis://:secret@a").login == Login("default", "secret")
    assert read_address("redis://a").login is None
    assert "p@ss" not in repr(address)


def test_tls_is_a_scheme_and_its_files_are_options() -> None:
    """Under the names that redis-py has for them."""
    url = "rediss://a?ssl_ca_certs=/ca.pem&ssl_certfile=/me.pem&ssl_keyfile=/key.pem"

    assert read_address(url).tls == Tls("/ca.pem", "/me.pem", "/key.pem")
    assert read_address("rediss://a").tls == Tls(None, None, None)
    assert read_address("redis://a").tls is None


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://a", "http:// is no store"),
        ("redis://", "no host"),
        ("redis+cluster://a,,b", "no host"),
        ("redis://:s3cret@", "no host"),
        ("redis://a:x", "port of a"),
        ("redis://a:0", "port of a"),
        ("redis://a:70000", "port of a"),
        ("redis://a,b", "several servers"),
        ("redis://a/x", "number of a database"),
        ("redis://a/1/2", "number of a database"),
        ("redis+cluster://a/1", "one database only"),
        ("redis+sentinel://a", "primary's name"),
        ("redis://a?ssl_ca_certs=/ca.pem", "not TLS"),
        ("rediss://a?ssl_cert_reqs=none", "ssl_cert_reqs: no such option"),
        ("rediss://a?sentinel_password=s3cret", "no such option"),
        ("rediss://a?ssl_keyfile=/key.pem", "a key belongs to a certificate"),
        ("rediss://a?ssl_ca_certs=/nowhere/ca.pem", "cannot be used"),
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(url: str, told: str) -> None:
    """Verification cannot be switched off, either."""
    with pytest.raises(ValueError, match=told) as refused:
        check_address(url)

    assert "s3cret" not in str(refused.value)


def test_an_endpoint_is_written_as_it_is_given() -> None:
    """Host and port."""
    assert str(Endpoint("a", 1)) == "a:1"

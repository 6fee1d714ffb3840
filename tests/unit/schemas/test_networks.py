"""Addresses and networks as they are read."""

from __future__ import annotations

import pytest

from schemas.networks import address_in, is_inside, is_public, network_problem


@pytest.mark.parametrize(
    ("text", "networks", "inside"),
    [
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("11.1.2.3", ("10.0.0.0/8",), False),
        ("10.1.2.3", ("192.0.2.1", "10.1.2.3"), True),
        ("2001:db8::1", ("2001:db8::/32",), True),
        ("2001:db9::1", ("2001:db8::/32",), False),
        ("::ffff:10.1.2.3", ("10.0.0.0/8",), True),
        ("fe80::1%eth0", ("fe80::/10",), True),
        ("10.1.2.3", ("::/0",), False),
        ("10.1.2.3", (), False),
    ],
)
def test_an_address_lies_in_a_network_or_not(
    text: str, networks: tuple[str, ...], inside: bool
) -> None:
    """Of either version; one of IPv4 in the form of IPv6 is one of IPv4."""
    address = address_in(text)

    assert address is not None
    assert is_inside(address, networks) is inside


@pytest.mark.parametrize(
    "text", ["", "localhost", "10.0.0", "1.2.3.4.5", "\u0661.1.1.1", "x" * 9_999]
)
def test_what_is_no_address_is_none(text: str) -> None:
    """Whatever a proxy writes."""
    assert address_in(text) is None


@pytest.mark.parametrize("text", ["10.0.0.0/8", "192.0.2.7", "::1", "2001:db8::/32", "0.0.0.0/0"])
def test_networks_of_both_versions_are_taken(text: str) -> None:
    """A single address is the smallest network."""
    assert network_problem(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1/8", "host bits"),
        ("10.0.0.0/33", "10.0.0.0/8"),
        ("office", "10.0.0.0/8"),
        ("", "10.0.0.0/8"),
        ("::ffff:10.0.0.0/104", "write them as IPv4"),
    ],
)
def test_what_is_no_network_is_told_with_what_is_one(text: str, words: str) -> None:
    """Also one that would never match, because addresses are told in the other form."""
    assert words in (network_problem(text) or "")


@pytest.mark.parametrize("text", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_an_address_of_the_internet_is_public(text: str) -> None:
    """Of either version."""
    address = address_in(text)

    assert address is not None
    assert is_public(address)


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1"),
        *("192.0.0.8", "192.168.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fc00::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1"),
        *("::ffff:127.0.0.1", "::7f00:1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b:1::1"),
        *("2001:0:4136:e378:8000:63bf:80ff:fffe", "100::1", "5f00::1"),
    ],
)
def test_an_address_of_a_network_of_ones_own_is_not_public(text: str) -> None:
    """Private ones, this machine, groups, and whatever leads to an address of IPv4 by another name."""
    address = address_in(text)

    assert address is not None
    assert not is_public(address)

"""Addresses and networks as they are read."""

from __future__ import annotations

import pytest

from schemas.networks import address_in, is_inside, network_problem


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

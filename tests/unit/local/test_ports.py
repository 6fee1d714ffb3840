"""The choice of ports: explicit ones are used or refused, all others may move."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from deploy.embedded.ports import RANDOM_PORTS, PortReservations, choose_ports
from deploy.embedded.problem import StackError


def all_free(_: int) -> bool:
    return True


def test_preferred_ports_are_used_when_free() -> None:
    """Nothing moves on an idle machine."""
    choice = choose_ports({"api": 8080, "admin": 8443}, {}, random.Random(1), all_free)

    assert choice.ports == {"api": 8080, "admin": 8443}
    assert choice.moved == ()


def test_a_taken_default_port_moves_to_its_neighbour_and_is_reported() -> None:
    """The user learns which port was wanted and which one is used."""
    choice = choose_ports({"api": 8080}, {}, random.Random(1), lambda port: port != 8080)

    assert choice.ports == {"api": 8081}
    assert choice.moved == (("api", 8080, 8081),)


def test_a_taken_explicit_port_is_refused_by_number() -> None:
    """An explicit port is never replaced."""
    with pytest.raises(StackError, match="8080"):
        choose_ports({"api": 8080}, {"api": 8080}, random.Random(1), lambda _: False)


def test_an_explicit_port_is_not_given_to_another_name() -> None:
    """A default that collides with an explicit port moves."""
    choice = choose_ports({"a": 9000, "b": 9000}, {"b": 9000}, random.Random(1), all_free)

    assert choice.ports == {"a": 9001, "b": 9000}


def test_port_zero_gives_distinct_random_ports() -> None:
    """Zero means any, below the range in which the kernel puts outgoing connections."""
    names = dict.fromkeys("abcdefgh", 0)

    ports = choose_ports(names, {}, random.Random(1), all_free).ports.values()

    assert len(set(ports)) == len(names)
    assert all(port in RANDOM_PORTS for port in ports)


def test_no_free_port_at_all_is_a_problem_with_a_remedy() -> None:
    """The search ends."""
    with pytest.raises(StackError, match="no free port for api"):
        choose_ports({"api": 8080}, {}, random.Random(1), lambda _: False)


def test_two_stacks_are_never_promised_the_same_port(tmp_path: Path) -> None:
    """Not even while neither has bound it yet; what is given back can be taken."""
    mine, yours = PortReservations(tmp_path), PortReservations(tmp_path)
    wanted = {"kafka": 0}
    port = choose_ports(wanted, {}, random.Random(1), mine.take).ports["kafka"]
    other = choose_ports(wanted, {}, random.Random(1), yours.take).ports["kafka"]

    assert port != other
    mine.release()
    assert yours.take(port)
    yours.release()

"""How users say how many processes of a role they want, and which process they mean."""

from __future__ import annotations

import pytest

from deploy.embedded.replicas import processes_meant, read_replicas
from deploy.embedded.roles import preferred_ports

ONE_EACH = dict.fromkeys(
    ("admin", "ingress", "batches", "limiter_worker", "dispatcher", "accounting"), 1
)


def test_numbers_are_read_by_role() -> None:
    """Blanks around them do not matter."""
    assert read_replicas("dispatcher=2, ingress=3") == {"dispatcher": 2, "ingress": 3}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not ROLE=NUMBER"),
        ("dispatcher", "'dispatcher' is not ROLE=NUMBER"),
        ("dispatcher=", "is not ROLE=NUMBER"),
        ("dispatcher=two", "is not ROLE=NUMBER"),
        ("dispatcher=-1", "is not ROLE=NUMBER"),
        ("dispatcher=\u0662", "is not ROLE=NUMBER"),
        ("dispatcher=2,,ingress=2", "'' is not ROLE=NUMBER"),
        ("kafka=3", "'kafka' is no role; the roles are admin, ingress"),
        ("ingress=2,ingress=3", "ingress stands there twice"),
        ("dispatcher=0", "1 to 4 are possible, one for each partition"),
        ("dispatcher=5", "1 to 4 are possible, one for each partition"),
        ("ingress=9", "ingress=9: 1 to 8 are possible"),
        ("admin=3", "admin=3: 1 to 2 are possible"),
        ("batches=5", "batches=5: 1 to 4 are possible"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(text: str, problem: str) -> None:
    """More workers than partitions would idle."""
    with pytest.raises(ValueError, match=problem):
        read_replicas(text)


def test_as_many_workers_as_partitions() -> None:
    """A stack that has more partitions takes more."""
    assert read_replicas("limiter_worker=6", partitions=6) == {"limiter_worker": 6}


def test_no_word_means_every_process_readers_before_writers() -> None:
    """The order of an upgrade."""
    assert processes_meant((), {**ONE_EACH, "dispatcher": 2}) == (
        "accounting-0",
        "dispatcher-0",
        "dispatcher-1",
        "limiter_worker-0",
        "batches-0",
        "ingress-0",
        "admin-0",
    )


def test_a_role_means_all_of_its_processes_and_a_name_one() -> None:
    """Each once, in the same order whatever was typed first."""
    meant = processes_meant(
        ("ingress-0", "dispatcher", "dispatcher-1"), {**ONE_EACH, "dispatcher": 2}
    )

    assert meant == ("dispatcher-0", "dispatcher-1", "ingress-0")


@pytest.mark.parametrize("word", ["dispatcher-1", "kafka", "", "dispatcher_0"])
def test_a_word_that_means_no_process_is_refused_with_those_that_are_there(word: str) -> None:
    """Broker and stores are not among them."""
    with pytest.raises(
        ValueError, match=r"neither a role nor a process.*accounting-0, dispatcher-0"
    ):
        processes_meant((word,), ONE_EACH)


def test_no_two_processes_would_like_the_same_port() -> None:
    """As many of each as possible."""
    ports = preferred_ports(
        {
            "admin": 2,
            "ingress": 8,
            "batches": 4,
            "limiter_worker": 4,
            "dispatcher": 4,
            "accounting": 4,
        }
    )

    assert len(set(ports.values())) == len(ports) == 34
    assert (ports["ingress-0"], ports["admin-0"], ports["dispatcher-0"]) == (8080, 8443, 9102)

"""What a process may not be told where ``TALLYGATE_ENV`` is ``production``: each problem a sentence that says what to do.

It looks at what was told, and at who may read the files that hold secrets; it connects to nobody.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from schemas.runtime.kafka.address import read_kafka_address
from schemas.runtime.process.secret_files import FILE
from schemas.runtime.valkey.address import Login, Tls, read_address

__all__ = ["Environment", "Told", "production_problems"]

_OTHERS: Final = stat.S_IRWXO
_SECRET_CHARS_MIN: Final = 32
_DIFFERENT_MIN: Final = 10
"""So many different characters has every secret that was drawn at random; a word that is repeated has fewer."""
_USUAL: Final = frozenset(
    {"", "admin", "changeme", "default", "guest", "kafka", "pass", "password", "redis", "secret"}
    | {"tallygate", "test", "valkey"}
)
"""Passwords that stand in examples and images."""
_BACKEND_KEY_FILE: Final = re.compile(rf"BACKEND_.+_API_KEY{FILE}")


class Environment(StrEnum):
    """Where a process runs."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class Told:
    """What a process was told, by variable; absent is what it has no use for."""

    brokers: str
    stores: Mapping[str, str]
    secrets: Mapping[str, str]
    """What keys are hashed or signed with."""
    key_files: Mapping[str, Path]
    """Files that hold the private key of a certificate."""
    environment: Mapping[str, str]
    """All variables: those that end with ``_FILE`` name files with secrets."""
    is_test: bool = False
    has_open_admin_port: bool = False
    """Whether it opens an admin port that asks for no certificate."""


def production_problems(told: Told) -> dict[str, str]:
    """Variable -> what to do about it. Empty when the process may start."""
    return dict(_problems(told))


def _problems(told: Told) -> Iterator[tuple[str, str]]:
    brokers = read_kafka_address(told.brokers)
    stores = {variable: read_address(url) for variable, url in told.stores.items()}
    kafka = "TALLYGATE_KAFKA_BROKERS"
    if told.is_test:
        yield "TALLYGATE_TEST", "a test stack is no production; unset it"
    if told.has_open_admin_port:
        names = "TALLYGATE_ADMIN_TLS_CERT, _KEY, _CLIENT_CA and TALLYGATE_ADMIN_ROLES"
        yield "TALLYGATE_ADMIN_TLS_CERT", f"the admin port asks for no certificate; set {names}"
    for variable, text in told.secrets.items():
        if len(text) < _SECRET_CHARS_MIN or len(set(text)) < _DIFFERENT_MIN:
            yield variable, "it can be guessed; draw one at random: openssl rand -hex 32"
    places = {kafka: (brokers.tls, brokers.login, "kafkas://")}
    places |= {name: (store.tls, store.login, "rediss") for name, store in stores.items()}
    for variable, (tls, login, scheme) in places.items():
        yield from _of_place(variable, tls, login, scheme)
    for variable, file in {**told.key_files, **_keys(places), **_secret_files(told)}.items():
        if _is_open(file):
            yield variable, f"everybody on this machine may use {file}; chmod o-rwx {file}"


def _of_place(
    variable: str, tls: Tls | None, login: Login | None, scheme: str
) -> Iterator[tuple[str, str]]:
    if tls is None:
        yield variable, f"what is said to it can be read on the way; begin it with {scheme} for TLS"
    elif login is not None and login.password.lower() in _USUAL | {login.user.lower()}:
        yield variable, "its password is one that everybody tries; draw one at random"


def _keys(places: Mapping[str, tuple[Tls | None, Login | None, str]]) -> dict[str, Path]:
    return {name: Path(tls.key) for name, (tls, _, _) in places.items() if tls and tls.key}


def _secret_files(told: Told) -> dict[str, Path]:
    known = {variable + FILE for variable in (*told.secrets, *told.stores)}
    known.add("TALLYGATE_KAFKA_BROKERS" + FILE)
    return {
        name: Path(path)
        for name, path in told.environment.items()
        if path and (name in known or _BACKEND_KEY_FILE.fullmatch(name))
    }


def _is_open(file: Path) -> bool:
    """Whether others than its owner and group may do anything with it; what is not there is told elsewhere."""
    try:
        return bool(file.stat().st_mode & _OTHERS)
    except OSError:
        return False

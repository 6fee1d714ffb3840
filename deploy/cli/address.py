"""Where the commands find the gateway, and as whom they come: what the user says, else what ``tallygate up`` left behind.

What the user says are ``--url``, ``--ca``, ``--cert`` and ``--cert-key``, or the variables beside them in
`deploy/cli/command.py`. Files that a running stack left are used for its own address alone.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.cli.output import CommandFailed, Exit

_ADMIN_PATH: Final = "/admin/v1"
_FILES: Final = ("TALLYGATE_ADMIN_CA", "TALLYGATE_ADMIN_CERT", "TALLYGATE_ADMIN_CERT_KEY")
"""What names the files in the environment, and in what a stack leaves behind."""


@dataclass(frozen=True)
class Address:
    """What a user says of the admin API; ``None`` is left to what was left behind."""

    url: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None

    @property
    def has_files(self) -> bool:
        """Whether any certificate was named."""
        return (self.ca, self.cert, self.cert_key) != (None, None, None)


def complete(said: Address) -> Address:
    """The address with its whole URL and its files. Raises ``CommandFailed`` when there is none."""
    needs_left = said.url is None or (_is_tls(said.url) and not said.has_files)
    left = _left_behind() if needs_left else {}
    url = said.url or left.get("admin_url")
    if url is None:
        raise CommandFailed(
            "no gateway is known",
            "there is no --url, no TALLYGATE_ADMIN_URL, and no `tallygate up` is running",
            "start one with `tallygate up`, or name one with --url",
        )
    is_ours = completed(url) == completed(left.get("admin_url", ""))
    if said.has_files or not is_ours:
        return Address(completed(url), said.ca, said.cert, said.cert_key)
    ca, cert, key = (Path(left[name]) if name in left else None for name in _FILES)
    return Address(completed(url), ca, cert, key)


def left_brokers(said: Address) -> str | None:
    """Where the brokers of the stack that runs here are, and as whom its owner comes; ``None`` where another gateway is meant."""
    left = _left_behind()
    url = said.url or left.get("admin_url", "")
    return (
        left.get("kafka_brokers")
        if completed(url) == completed(left.get("admin_url", ""))
        else None
    )


def client_tls(address: Address) -> ssl.SSLContext | None:
    """How a client speaks to the address: ``None`` for plain HTTP. Raises ``CommandFailed`` for files of no use."""
    if address.url is None or not _is_tls(address.url):
        return None
    try:
        context = ssl.create_default_context(cafile=address.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if address.cert is not None:
            context.load_cert_chain(address.cert, address.cert_key)
    except OSError as error:
        named = ", ".join(
            str(file) for file in (address.ca, address.cert, address.cert_key) if file
        )
        raise CommandFailed(
            "a certificate cannot be used",
            f"{error} ({named})",
            "name PEM files: --cert and --cert-key, that belong together, and --ca",
            Exit.USAGE,
        ) from error
    return context


def completed(url: str) -> str:
    """The address with the path of the admin API, which need not be typed."""
    bare = url.rstrip("/")
    return bare if bare.endswith(_ADMIN_PATH) else bare + _ADMIN_PATH


def _is_tls(url: str) -> bool:
    return url.lower().startswith("https://")


def _left_behind() -> Mapping[str, str]:
    # Imported here, because who says where the gateway is need not wait for the folders' settings.
    from deploy.embedded.state import UserFolders  # noqa: PLC0415

    return current_stack(UserFolders().current)


def current_stack(file: Path) -> dict[str, str]:
    """What the running ``tallygate up`` of this user says about itself; empty when none runs."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: str(value) for name, value in content.items()}

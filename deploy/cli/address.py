"""Where the commands find the gateway: what the user says, else what ``tallygate up`` left behind.

The only place of the command line that reads the environment.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.cli.output import CommandFailed
from deploy.embedded.state import UserFolders

_ADMIN_PATH = "/admin/v1"


class Addresses(BaseSettings):
    """Addresses in the environment, prefix ``TALLYGATE_``."""

    model_config = SettingsConfigDict(env_prefix="TALLYGATE_", frozen=True, env_ignore_empty=True)

    admin_url: str | None = None
    kafka_brokers: str | None = None


def admin_url(given: str | None) -> str:
    """The address of the admin API; raises ``CommandFailed`` when there is none."""
    current = current_stack(UserFolders().current)
    found = given or Addresses().admin_url or current.get("admin_url")
    if found is None:
        raise CommandFailed(
            "no gateway is known",
            "there is no --url, no TALLYGATE_ADMIN_URL, and no `tallygate up` is running",
            "start one with `tallygate up`, or name one with --url",
        )
    return completed(found)


def completed(url: str) -> str:
    """The address with the path of the admin API, which need not be typed."""
    bare = url.rstrip("/")
    return bare if bare.endswith(_ADMIN_PATH) else bare + _ADMIN_PATH


def current_stack(file: Path) -> dict[str, str]:
    """What the running ``tallygate up`` of this user says about itself; empty when none runs."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: str(value) for name, value in content.items()}

"""Where the commands find the gateway: what the user says, else what ``tallygate up`` left behind.

What the user says is ``--url`` or ``TALLYGATE_ADMIN_URL``; `deploy/cli/command.py` has both.
"""

from __future__ import annotations

import json
from pathlib import Path

from deploy.cli.output import CommandFailed

_ADMIN_PATH = "/admin/v1"


def admin_url(given: str | None) -> str:
    """The address of the admin API; raises ``CommandFailed`` when there is none."""
    found = given or _left_behind()
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


def _left_behind() -> str | None:
    # Imported here, because who says where the gateway is need not wait for the folders' settings.
    from deploy.embedded.state import UserFolders  # noqa: PLC0415

    return current_stack(UserFolders().current).get("admin_url")


def current_stack(file: Path) -> dict[str, str]:
    """What the running ``tallygate up`` of this user says about itself; empty when none runs."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: str(value) for name, value in content.items()}

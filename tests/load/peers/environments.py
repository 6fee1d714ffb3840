"""Environments of other gateways, in a folder outside of the repository: made once, with pinned versions.

They are no dependency of ours and stand in no lock file. What cannot be had is told in its row.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

INSTALL_WITHIN_S: Final = 600.0
_READY: Final = ".ready"


class NotToBeHad(Exception):
    """A gateway cannot be installed or started here, and why."""


@dataclass(frozen=True)
class Package:
    """What a registry's ordinary client installs: a Python package with its extras, or one of npm."""

    folder: str
    names: tuple[str, ...]
    is_npm: bool = False


LITELLM: Final = Package("litellm", ("litellm[proxy]==1.108.0", "uvloop==0.23.0"))
MLFLOW: Final = Package("mlflow", ("mlflow[gateway]==3.17.2",))
PORTKEY: Final = Package("portkey", ("@portkey-ai/gateway@1.15.2",), is_npm=True)
BIFROST: Final = Package("bifrost", ("@maximhq/bifrost@1.6.3",), is_npm=True)


def installed(package: Package, folder: Path) -> Path:
    """Where it stands; installed if it is not yet. Raises ``NotToBeHad``."""
    place = folder / package.folder
    if (place / _READY).exists():
        return place
    place.mkdir(parents=True, exist_ok=True)
    if package.is_npm:
        npm = shutil.which("npm")
        if npm is None:
            raise NotToBeHad("npm is not installed")
        _run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(place), *package.names])
    else:
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(place / "bin" / "pip"), "install", "--quiet", *package.names])
    (place / _READY).touch()
    return place


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotToBeHad(f"{type(error).__name__} while installing") from error
    if done.returncode:
        raise NotToBeHad(f"not installed: {(done.stderr.strip() or '?').splitlines()[-1][:120]}")

"""The container files as values: services of docker-compose.yml, instructions of the Dockerfile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias

import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
COMPOSE_FILE = ROOT / "docker-compose.yml"

Service: TypeAlias = dict[str, Any]


def compose() -> dict[str, Any]:
    """The whole of docker-compose.yml, with anchors and merges resolved."""
    content: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    return content


def services() -> dict[str, Service]:
    """The services by name."""
    found: dict[str, Service] = compose()["services"]
    return found


def environment(service: Service) -> dict[str, str]:
    """What the service sets, with every `${NAME:?why}` given and every `${NAME:-}` left out."""
    given: dict[str, str] = service.get("environment", {})
    return {
        name: re.sub(r"\$\{\w+:-\}", "", re.sub(r"\$\{\w+:\?[^}]*\}", "given" * 8, text))
        for name, text in given.items()
    }


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: keyword and the rest, on one line."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    parts = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(keyword, rest.strip()) for keyword, _, rest in parts]


def image_environment() -> dict[str, str]:
    """The variables that the image sets by itself."""
    pairs = " ".join(rest for keyword, rest in instructions() if keyword == "ENV")
    return dict(pair.split("=", 1) for pair in pairs.split())

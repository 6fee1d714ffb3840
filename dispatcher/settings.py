"""Settings of the dispatcher."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from pydantic import Field, field_validator

from schemas.networks import network_problem
from schemas.runtime.process.pepper_settings import WebhookPepperSettings
from schemas.runtime.process.secret_files import FILE, read_value
from schemas.runtime.process.settings import (
    WorkerSettings,
    refuse_to_start,
)


class DispatcherSettings(WorkerSettings, WebhookPepperSettings):
    """What the dispatcher is told by its environment."""

    concurrency: int = Field(default=512, ge=1, le=10_000)
    """Backend calls under way at once."""
    drain_max_s: float = Field(default=2.0, ge=0, le=3)
    """How long an answer is still read once its client is gone, so that its usage is known."""
    drain_max_bytes: int = Field(default=256 * 1024, ge=0)
    """How much of it is still read."""
    stop_after_s: float = Field(default=25.0, ge=0, le=25)
    """How long calls may go on after SIGTERM; what follows must fit into the 30 s of a stop."""
    log_upstream_texts: bool = False
    """Whether what backends say about errors may stand in the logs: it may quote prompts."""
    webhook_networks: str = ""
    """Networks that webhooks may go to although they are private, such as ``10.20.0.0/16,127.0.0.1``, also without TLS.
    Without them webhooks go to public addresses only, and only over TLS."""

    @field_validator("webhook_networks")
    @classmethod
    def _are_networks(cls, listed: str) -> str:
        for network in read_networks(listed):
            if problem := network_problem(network):
                raise ValueError(problem)
        return listed

    @property
    def webhook_private(self) -> tuple[str, ...]:
        """The private networks that webhooks may go to."""
        return read_networks(self.webhook_networks)


def read_networks(listed: str) -> tuple[str, ...]:
    """Networks with commas between them; none of an empty text."""
    return tuple(filter(None, (each.strip() for each in listed.split(","))))


_KEY: Final = re.compile(rf"(BACKEND_.+_API_KEY)({FILE})?")


def backend_api_keys() -> Mapping[str, str]:
    """The ``BACKEND_<ID>_API_KEY`` variables, or the files that ``…_FILE`` names; read once, by the entry point.

    A file that cannot be read ends the process with status 2, like any setting.
    """
    keys: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name in {match[1] for match in map(_KEY.fullmatch, os.environ) if match}:
        try:
            keys[name] = read_value(os.environ, name) or ""
        except ValueError as error:
            problems[name + FILE] = str(error)
    if problems:
        refuse_to_start(problems)
    return keys
